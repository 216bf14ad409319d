"""A reader of text/event-stream for tests, written from the specification and sharing no code with Ekiden."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

#: Events without an entry of the log behind them, and the snapshot, which replaces instead of following.
NEVER_DROPPED = {"queued", "ping", "resync", "reconnect", "snapshot"}

TERMINAL = {"completed", "failed", "cancelled"}


@dataclass(frozen=True)
class SeenEvent:
    """One event as a client sees it. `id` is None where the event carried no id of its own."""

    type: str
    id: str | None
    data: dict[str, Any]


def read_events(chunks: Iterable[bytes]) -> Iterator[SeenEvent]:
    """The events in a byte stream, each as soon as its blank line has come. Retry and comment lines are skipped."""
    name, event_id, data = "", None, []
    for line in _lines(chunks):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if not line:
            if data:
                yield SeenEvent(name or "message", event_id, json.loads(b"\n".join(data)))
            name, event_id, data = "", None, []
        elif field == b"event":
            name = value.decode()
        elif field == b"id":
            event_id = value.decode()
        elif field == b"data":
            data.append(value)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        rest += chunk
        *lines, rest = rest.split(b"\n")
        for line in lines:
            assert b"\r" not in line, "Ekiden writes no carriage returns"
            yield line


class Client:
    """Folds events as docs/events.md tells clients to, and counts what must never happen."""

    def __init__(self) -> None:
        self.content = ""
        self.reasoning = ""
        self.last_id: str | None = None
        self.end: SeenEvent | None = None
        self.types: list[str] = []
        self.repeated = 0

    def take(self, event: SeenEvent) -> None:
        """Fold one event in."""
        if event.type not in NEVER_DROPPED and event.id is not None:
            if self.last_id is not None and _order(event.id) <= _order(self.last_id):
                self.repeated += 1
                return
            self.last_id = event.id
        if event.type == "snapshot" and event.id is not None:
            self.last_id = event.id
        self.types.append(event.type)
        match event.type:
            case "delta":
                self.content += event.data["content"]
            case "reasoning":
                self.reasoning += event.data["content"]
            case "reset" | "snapshot":
                self.content = event.data["content"]
                self.reasoning = event.data["reasoning"]
        if event.type in TERMINAL:
            assert self.end is None, "a second terminal event"
            self.end = event


def _order(event_id: str) -> tuple[int, int]:
    epoch, seq = event_id.split("-")
    return int(epoch), int(seq)
