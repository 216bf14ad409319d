"""What the model has said in one attempt, and what that amounts to as events."""

import asyncio
import hashlib
from collections.abc import Iterator

from shared.contracts.errors import Problem
from shared.contracts.events import Completed, Delta, Failed, Reasoning, Timings, Usage
from shared.contracts.sessions import Message
from shared.contracts.usage import bytes_of, estimate
from shared.providers.chat import Piece
from shared.runtime.ledger_async import Claim
from shared.runtime.metrics import FIRST_TOKEN_SECONDS


class Answer:
    """Grows piece by piece. Times are seconds of the event loop's clock."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._asked_bytes = 0
        self._pieces: list[str] = []
        self._usage: Usage | None = None
        self._first_at: float | None = None
        self.began_at = asyncio.get_running_loop().time()
        self.bytes = 0
        self.finish_reason = "stop"

    def asked(self, messages: list[Message]) -> None:
        """What the model was sent, for an estimate where the provider reports no usage."""
        self._asked_bytes = bytes_of(messages)

    def take(self, piece: Piece) -> Iterator[Delta | Reasoning]:
        """Add the next piece; the events it makes."""
        if self._first_at is None and (piece.content or piece.reasoning):
            self._first_at = asyncio.get_running_loop().time()
            FIRST_TOKEN_SECONDS.observe(self._first_at - self.began_at)
        self.finish_reason = piece.finish_reason or self.finish_reason
        self._usage = piece.usage or self._usage
        if piece.reasoning:
            self.bytes += len(piece.reasoning.encode())
            yield Reasoning(task_id=self._claim.task_id, content=piece.reasoning)
        if piece.content:
            self._pieces.append(piece.content)
            self.bytes += len(piece.content.encode())
            yield Delta(task_id=self._claim.task_id, content=piece.content)

    def completed(self) -> Completed:
        """The answer as its terminal event."""
        content = "".join(self._pieces)
        return Completed(
            task_id=self._claim.task_id,
            content=content,
            finish_reason=self.finish_reason,
            usage=self._usage or estimate(asked_bytes=self._asked_bytes, answered_bytes=self.bytes),
            timings=self._timings(),
            sha256=hashlib.sha256(content.encode()).hexdigest(),
        )

    def failed(self, problem: Problem) -> Failed:
        """The answer so far, ended by a problem."""
        return Failed(task_id=self._claim.task_id, problem=problem, partial="".join(self._pieces))

    def _timings(self) -> Timings:
        now = asyncio.get_running_loop().time()
        return Timings(
            queue_ms=self._claim.waited_ms,
            first_token_ms=None if self._first_at is None else round((self._first_at - self.began_at) * 1000),
            total_ms=round((now - self.began_at) * 1000),
        )
