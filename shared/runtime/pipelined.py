"""A client of Redis for one event loop: one connection, on which everybody's commands follow each other.

Deliberate, beside redis-py's asyncio client:

1. A command is written at once and its reply resolves a future: two turns of the event loop, where redis-py's pool,
   pipeline and stream reader take five or six. In a loop that is busy with fifty answers a turn is 25 ms, and the first
   token of each waits for several commands.
2. What many tasks send in one turn shares a write and a read; nobody waits for a connection of a pool.
3. A lost connection is tried once more, a time-out is not, as `store.py` has it for threads.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import hiredis
import redis
from redis.exceptions import NoScriptError, ResponseError

from shared.runtime.connection import Address, RedisConnection, Word, open_connection

#: A loop that was busy for longer than the time-out finds the replies waiting, right after this second look.
_SECOND_LOOK_SECONDS: Final = 0.25


class PipelinedClient:
    """Connects when it is first used, and again after a loss. All methods belong to one event loop."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._address = Address(url)
        self._timeout_seconds = timeout_seconds
        self._line: _Line | None = None
        self._connecting = asyncio.Lock()

    async def execute(self, *command: Word) -> Any:
        """Send one command; its reply. Raises redis.ConnectionError, redis.TimeoutError, redis.ResponseError."""
        [reply] = await self.execute_all([command])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def execute_all(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        """Send commands in one write; a reply for each, an error in its place. Not atomic.

        Raises redis.ConnectionError or redis.TimeoutError: then any number of them may have been carried out.
        """
        if not commands:
            return []
        try:
            return await self._try(commands)
        except redis.ConnectionError:
            return await self._try(commands)

    async def aclose(self) -> None:
        """Drop the connection. The client may be used again."""
        if self._line is not None:
            self._line.close()

    async def _try(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        line = self._line
        if line is None or line.is_lost:
            line = await self._connect()
        return await line.send(commands)

    async def _connect(self) -> "_Line":
        async with self._connecting:
            if self._line is not None and not self._line.is_lost:
                return self._line
            line = _Line(self._timeout_seconds)
            await line.open(self._address)
            self._line = line
            if self._address.greeting:
                for reply in await line.send(self._address.greeting):
                    if isinstance(reply, Exception):
                        line.close()
                        raise redis.AuthenticationError("the server refused the login") from reply
            return line


@dataclass(slots=True)
class _Waiting:
    """Commands sent together and their replies so far."""

    count: int
    sent_at: float
    done: asyncio.Future[list[Any]]
    replies: list[Any] = field(default_factory=list)


class _Line:
    """One connection and what waits for its replies. When it is lost, all that waits fails; it is never used again."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._connection: RedisConnection | None = None
        self._waiting: deque[_Waiting] = deque()
        self._is_watched = False
        self.is_lost = False

    async def open(self, address: Address) -> None:
        """Connect. Raises redis.ConnectionError, redis.TimeoutError."""
        try:
            self._connection = await open_connection(
                address, self._receive, timeout_seconds=self._timeout_seconds, on_lost=self._on_lost
            )
        except TimeoutError:
            raise redis.TimeoutError("connecting took too long") from None
        except OSError as error:
            raise redis.ConnectionError("cannot connect") from error

    def send(self, commands: Sequence[tuple[Word, ...]]) -> asyncio.Future[list[Any]]:
        """Send commands; a future of their replies. It fails with the line."""
        done = self._loop.create_future()
        if self._connection is None or self.is_lost:
            done.set_exception(redis.ConnectionError("the connection is lost"))
            return done
        self._waiting.append(_Waiting(len(commands), self._loop.time(), done))
        self._connection.send(*commands)
        if not self._is_watched:
            self._is_watched = True
            self._loop.call_later(self._timeout_seconds, self._watch)
        return done

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()

    def _receive(self, reply: Any) -> None:
        first = self._waiting[0]
        first.replies.append(_as_error(reply) if isinstance(reply, hiredis.ReplyError) else reply)
        if len(first.replies) == first.count:
            self._waiting.popleft()
            if not first.done.done():
                first.done.set_result(first.replies)

    def _on_lost(self) -> None:
        self._fail(redis.ConnectionError("the connection was lost"))

    def _fail(self, error: Exception) -> None:
        self.is_lost = True
        failed, self._waiting = self._waiting, deque()
        for waiting in failed:
            if not waiting.done.done():
                waiting.done.set_exception(error)

    def _watch(self, looked_at: float | None = None) -> None:
        """Called while commands are under way, to find out whether the oldest has waited too long."""
        if not self._waiting:
            self._is_watched = False
            return
        oldest = self._waiting[0].sent_at
        waited = self._loop.time() - oldest
        if waited < self._timeout_seconds:
            self._loop.call_later(self._timeout_seconds - waited, self._watch)
        elif looked_at != oldest:
            self._loop.call_later(_SECOND_LOOK_SECONDS, self._watch, oldest)
        else:
            self._fail(redis.TimeoutError("the server did not answer in time"))
            self.close()


def _as_error(reply: Exception) -> ResponseError:
    text = str(reply)
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
