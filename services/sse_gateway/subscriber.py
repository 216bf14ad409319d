"""One open event stream: where it is in the log, and what waits to be sent to it.

Copies of new entries are offered as they are published. One that follows what the subscriber has goes into its
buffer; one it has already is dropped; anything else means that something was missed, and the log is read.

Deliberate:

1. All that waits is taken at once and sent in one write.
2. The buffer is bounded in bytes. What does not fit is not kept: it is read from the log once the client has taken the
   rest. The log is the buffer, so a slow client costs no more memory and loses nothing.
3. Cursor and ids are bytes, as they come from the store; no frame is decoded.
"""

import asyncio
from typing import Final, Literal

from shared.contracts.entries import LogEntry
from shared.contracts.frames import with_id
from shared.contracts.ids import BEFORE_FIRST

#: Why a stream is ended although its task goes on.
Ending = Literal["drain", "max_age", "slow"]

#: Copies kept while the log is being read. Past that the log is simply read again.
_MAX_AHEAD: Final = 1000

_TERMINAL: Final = frozenset({b"completed", b"failed", b"cancelled"})


class Subscriber:
    """The state of one stream. All methods belong to the event loop."""

    __slots__ = (
        "_ahead",
        "_bytes",
        "_frames",
        "_max_bytes",
        "_order",
        "_waker",
        "behind",
        "cursor",
        "ended",
        "ending",
        "heard",
        "left",
        "ping_due",
    )

    def __init__(self, *, cursor: str = BEFORE_FIRST, max_bytes: int) -> None:
        #: The newest entry that has been sent or waits to be.
        self.cursor = cursor.encode()
        self._order = _order(self.cursor)
        self._max_bytes = max_bytes
        self._frames: list[bytes] = []
        self._bytes = 0
        #: Copies that came while the log is being read; None while it is not.
        self._ahead: list[LogEntry] | None = None
        self._waker: asyncio.Future[None] | None = None
        #: The log holds, or may hold, entries that must be read before anything else is passed on.
        self.behind = False
        #: The terminal entry has been taken, or waits to be.
        self.ended = False
        #: A copy has come since this was last set to False.
        self.heard = False
        self.ping_due = False
        #: The client has gone.
        self.left = False
        self.ending: Ending | None = None

    def offer(self, entry: LogEntry) -> None:
        """A copy of an entry was published."""
        self.heard = True
        if self._ahead is None:
            self._accept(entry)
        elif len(self._ahead) < _MAX_AHEAD:
            self._ahead.append(entry)
        else:
            self.behind = True

    def must_read(self) -> None:
        """Something may have been missed: read the log."""
        self.behind = True
        self.wake()

    def begin_read(self) -> str:
        """The log is about to be read from the cursor that is returned."""
        self.behind = False
        self._ahead = []
        return self.cursor.decode()

    def end_read(self, entries: list[LogEntry], *, more: bool) -> None:
        """What the read returned, each entry following the one before; then what was published meanwhile.

        `more`: the log went on after the last of `entries`.
        """
        ahead, self._ahead = self._ahead or [], None
        for entry in entries:
            self._push(entry)
        self.behind = self.behind or more
        for entry in ahead:
            self._accept(entry)

    def abandon_read(self) -> None:
        """The store did not answer. What was published meanwhile is found by the next read."""
        self._ahead = None

    def restart_at(self, cursor: str) -> None:
        """A snapshot replaces what the client has: go on from its id, which may be lower. What waited is void."""
        self._frames, self._bytes = [], 0
        self.cursor = cursor.encode()
        self._order = _order(self.cursor)
        self._ahead, self.behind = None, True

    def take(self) -> bytes:
        """All that waits, to be sent in one write; empty where nothing does."""
        if not self._frames:
            return b""
        frames, self._frames, self._bytes = self._frames, [], 0
        return b"".join(frames)

    def end(self, why: Ending) -> None:
        """Have the stream ended though its task goes on."""
        if self.ending is None:
            self.ending = why
            self.wake()

    def leave(self) -> None:
        """The client has closed the connection."""
        self.left = True
        self.wake()

    def ping(self) -> None:
        """Have a ping sent."""
        self.ping_due = True
        self.wake()

    def wake(self) -> None:
        """Let `wait` return."""
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    async def wait(self) -> None:
        """Return as soon as there is something to do."""
        if self._frames or self.behind or self.left or self.ping_due or self.ending is not None:
            return
        self._waker = asyncio.get_running_loop().create_future()
        try:
            await self._waker
        finally:
            self._waker = None

    def _accept(self, entry: LogEntry) -> None:
        if self.behind:
            return
        if entry.previous == self.cursor:
            self._push(entry)
            self.wake()
        elif _order(entry.id) > self._order:
            self.must_read()

    def _push(self, entry: LogEntry) -> None:
        if self.behind:
            return
        frame = with_id(entry.id, entry.frame)
        if self._frames and self._bytes + len(frame) > self._max_bytes:
            self.behind = True
            return
        self._frames.append(frame)
        self._bytes += len(frame)
        self.cursor, self._order = entry.id, _order(entry.id)
        self.ended = entry.type in _TERMINAL


def _order(entry_id: bytes) -> tuple[int, int]:
    epoch, _, seq = entry_id.partition(b"-")
    return int(epoch), int(seq)
