"""Reads tasks and their logs from the store, for streams that begin, fall behind or resync."""

from dataclasses import dataclass

from shared.contracts import keys
from shared.contracts.entries import LogEntry, from_reply
from shared.contracts.ids import BEFORE_FIRST
from shared.contracts.transcript import Transcript
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.store import store_errors

#: Entries read at once. A page of usual deltas is about 40 kB, well within one subscriber's buffer.
PAGE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskState:
    """What a stream must know of its task. `end_frame` is empty while the task runs."""

    session_id: str
    status: str
    attempt: int
    last_id: str
    end_frame: bytes


class LogReader:
    """Every method raises StoreUnavailable when the store cannot serve."""

    def __init__(self, client: PipelinedClient) -> None:
        self._client = client

    async def state(self, task_id: str) -> TaskState | None:
        """A task's state; None where there is no such task."""
        with store_errors():
            session_id, status, attempt, last_id, end_frame = await self._client.execute(
                "HMGET", keys.task(task_id), "session_id", "status", "attempt", "last_id", "end_frame"
            )
        if status is None:
            return None
        return TaskState(
            session_id=session_id.decode(),
            status=status.decode(),
            attempt=int(attempt),
            last_id=(last_id or b"").decode(),
            end_frame=end_frame or b"",
        )

    async def after(self, task_id: str, cursor: str) -> list[LogEntry] | None:
        """The entries that follow `cursor`, up to a page; None where the cursor is no entry of the log.

        The log is read from the cursor on, itself included: that it is still there, and what follows it, is one reply.
        """
        if cursor == BEFORE_FIRST:
            with store_errors():
                rows = await self._client.execute("XRANGE", keys.log(task_id), "-", "+", "COUNT", PAGE)
            entries = [from_reply(row) for row in rows]
            return entries if entries and entries[0].previous == BEFORE_FIRST.encode() else None
        with store_errors():
            rows = await self._client.execute("XRANGE", keys.log(task_id), cursor, "+", "COUNT", PAGE + 1)
        if not rows or rows[0][0] != cursor.encode():
            return None
        return [from_reply(row) for row in rows[1:]]

    async def first_id(self, task_id: str) -> str | None:
        """The id of the oldest entry in the log; None where there is no log."""
        with store_errors():
            rows = await self._client.execute("XRANGE", keys.log(task_id), "-", "+", "COUNT", 1)
        return str(rows[0][0], "ascii") if rows else None

    async def transcript(self, task_id: str) -> Transcript:
        """All of the log folded, but for its terminal entry, which no snapshot holds."""
        transcript = Transcript()
        minimum = "-"
        while True:
            with store_errors():
                rows = await self._client.execute("XRANGE", keys.log(task_id), minimum, "+", "COUNT", PAGE)
            for row in rows:
                entry = from_reply(row)
                if entry.type in (b"completed", b"failed", b"cancelled"):
                    return transcript
                transcript.add(entry)
            if len(rows) < PAGE:
                return transcript
            minimum = f"({transcript.last_id}"
