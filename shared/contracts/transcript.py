"""What a task's events add up to: the fold that worker, API and gateway share."""

import msgspec

from shared.contracts.entries import LogEntry
from shared.contracts.events import Cancelled, Completed, Delta, Entry, Failed, Reasoning, Reset, Started
from shared.contracts.frames import decode_frame
from shared.contracts.ids import BEFORE_FIRST


class Transcript(msgspec.Struct, kw_only=True):
    """The text so far. `last_id` is the newest entry folded in, `attempt` the newest that started."""

    pieces: list[str] = []
    reasoning_pieces: list[str] = []
    attempt: int = 0
    last_id: str = BEFORE_FIRST
    end: Completed | Failed | Cancelled | None = None

    @property
    def content(self) -> str:
        """The answer's text so far."""
        return "".join(self.pieces)

    @property
    def reasoning(self) -> str:
        """The model's thinking so far."""
        return "".join(self.reasoning_pieces)

    def add(self, entry: LogEntry) -> None:
        """Fold in the next entry of the log. Entries must come in order, each once."""
        self.apply(decode_frame(entry.frame))
        self.last_id = entry.id.decode()

    def apply(self, event: Entry) -> None:
        """Fold in one event."""
        match event:
            case Delta(content=content):
                self.pieces.append(content)
            case Reasoning(content=content):
                self.reasoning_pieces.append(content)
            case Started(attempt=attempt):
                self.attempt = attempt
            case Reset(content=content, reasoning=reasoning):
                self.pieces = [content]
                self.reasoning_pieces = [reasoning]
            case Completed(content=content):
                self.pieces = [content]
                self.end = event
            case Failed(partial=partial) | Cancelled(partial=partial):
                self.pieces = [partial]
                self.end = event
