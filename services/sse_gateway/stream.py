"""What goes to one client, from the first byte to the close: replay, live, pings, resyncs, and one ending."""

import random
from collections.abc import Awaitable, Callable
from typing import Final, Literal

import structlog

from services.sse_gateway.log_reader import PAGE, LogReader, TaskState
from services.sse_gateway.subscriber import Subscriber
from shared.contracts.errors import EkidenError, StoreUnavailable, problem_of
from shared.contracts.events import Cancelled, Completed, Failed, Ping, Reconnect, Resync, Snapshot
from shared.contracts.frames import OPENING_COMMENT, PING_COMMENT, decode_frame, encode_frame, retry_frame, with_id
from shared.contracts.ids import BEFORE_FIRST, entry_order
from shared.runtime.metrics import LOG_READS, RESYNCS

#: Milliseconds a client is told to wait before it connects again: a range, so that a restart of a gateway does not
#: bring all its clients back in the same moment.
RETRY_MS: Final = (1000, 3000)

#: How the caller sends bytes to the client; returns when they are out of this process's hands.
Write = Callable[[bytes], Awaitable[None]]

#: Why a client's text is replaced by a snapshot.
Reason = Literal["trimmed", "lost", "unknown_cursor"]

_log = structlog.get_logger()


class TaskGone(EkidenError):
    """The task was deleted while somebody was reading it."""

    code = "task_gone"
    title = "This task is no longer there"


def opening() -> bytes:
    """The first bytes of every stream: when to come back, and a comment that opens proxies."""
    return retry_frame(random.randint(*RETRY_MS)) + OPENING_COMMENT


class TaskStream:
    """One client's stream of one task. `run` it once; it returns when the stream is to be closed."""

    def __init__(self, task_id: str, cursor: str, *, reader: LogReader, max_bytes: int) -> None:
        self._task_id = task_id
        self._given_cursor = cursor
        self._reader = reader
        self._extra: list[bytes] = []
        self._over = False
        self.subscriber = Subscriber(cursor=cursor, max_bytes=max_bytes)

    async def run(self, write: Write) -> None:
        """Send events until the task ends, the client leaves, or the stream is to be continued elsewhere."""
        _log.info("stream_opened", task_id=self._task_id, cursor=self._given_cursor)
        await self._run(write)
        _log.info("stream_closed", task_id=self._task_id, why=self._why_closed())

    async def _run(self, write: Write) -> None:
        subscriber = self.subscriber
        while not subscriber.left:
            if subscriber.behind:
                await self._read()
            if data := self._take():
                await write(data)
            if self._over or subscriber.ended:
                return
            if subscriber.ending is not None:
                await write(opening() + encode_frame(Reconnect(task_id=self._task_id, reason=subscriber.ending)))
                return
            await subscriber.wait()

    def _why_closed(self) -> str:
        if self.subscriber.ended or self._over:
            return "ended"
        return self.subscriber.ending or "left"

    def _take(self) -> bytes:
        data = b"".join(self._extra) + self.subscriber.take()
        self._extra.clear()
        if self.subscriber.ping_due:
            self.subscriber.ping_due = False
            data += PING_COMMENT + encode_frame(Ping(task_id=self._task_id))
        return data

    async def _read(self) -> None:
        """Bring the subscriber up to the log. While the store is away the next look tries again."""
        subscriber = self.subscriber
        cursor = subscriber.begin_read()
        try:
            entries = await self._reader.after(self._task_id, cursor)
            LOG_READS.inc()
            if entries is None:
                await self._resync(cursor)
            else:
                subscriber.end_read(entries, more=len(entries) >= PAGE)
        except StoreUnavailable as error:
            subscriber.abandon_read()
            _log.warning("log_unreadable", task_id=self._task_id, exc_info=error.__cause__)

    async def _resync(self, cursor: str) -> None:
        """The log cannot be continued from the cursor: give the client all of it anew."""
        state = await self._reader.state(self._task_id)
        first_id = await self._reader.first_id(self._task_id)
        if state is None or (first_id is None and not state.end_frame):
            self._extra.append(encode_frame(Failed(task_id=self._task_id, problem=problem_of(TaskGone()), partial="")))
            self._over = True
        elif first_id is None:
            self._replay_end(state)
        else:
            await self._replay_from_snapshot(state, self._why_resync(cursor, first_id))

    async def _replay_from_snapshot(self, state: TaskState, reason: Reason) -> None:
        transcript = await self._reader.transcript(self._task_id)
        snapshot = Snapshot(
            task_id=self._task_id,
            # A log that was trimmed after its end no longer holds all of the text; the task does.
            content=_text_of(state) if state.end_frame else transcript.content,
            reasoning=transcript.reasoning,
            status="running" if state.end_frame else state.status,
            attempt=transcript.attempt,
        )
        self._extra.append(encode_frame(Resync(task_id=self._task_id, reason=reason)))
        self._extra.append(with_id(transcript.last_id.encode(), encode_frame(snapshot)))
        self.subscriber.restart_at(transcript.last_id)
        RESYNCS.labels(reason=reason).inc()
        _log.info("resync", task_id=self._task_id, reason=reason)

    def _replay_end(self, state: TaskState) -> None:
        """The log has expired; the task still knows how it ended."""
        snapshot = Snapshot(
            task_id=self._task_id, content=_text_of(state), reasoning="", status="running", attempt=state.attempt
        )
        # Its id is the lowest there is, so that the end counts as new whatever cursor the client came with.
        self._extra.append(with_id(BEFORE_FIRST.encode(), encode_frame(snapshot)))
        self._extra.append(with_id(state.last_id.encode(), state.end_frame))
        self._over = True

    def _why_resync(self, cursor: str, first_id: str) -> Reason:
        if cursor != self._given_cursor or cursor == BEFORE_FIRST:
            return "lost"
        return "trimmed" if entry_order(cursor) < entry_order(first_id) else "unknown_cursor"


def _text_of(state: TaskState) -> str:
    """The text with which a task has ended."""
    match decode_frame(state.end_frame):
        case Completed(content=text) | Failed(partial=text) | Cancelled(partial=text):
            return text
        case _:
            raise AssertionError("a task's end is a terminal event")
