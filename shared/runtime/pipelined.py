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


@dataclass(slots=True)
class _Pending:
    """Commands sent together and their replies so far."""

    count: int
    sent_at: float
    done: asyncio.Future[list[Any]]
    replies: list[Any] = field(default_factory=list)


class PipelinedClient:
    """Connects when it is first used, and again after a loss. All methods belong to one event loop."""

    def __init__(self, url: str, *, timeout_seconds: float) -> None:
        self._address = Address(url)
        self._timeout_seconds = timeout_seconds
        self._connection: RedisConnection | None = None
        self._connecting: asyncio.Lock = asyncio.Lock()
        self._pending: deque[_Pending] = deque()
        self._watching = False

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
        if self._connection is not None:
            self._connection.close()

    async def _try(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        connection = self._connection or await self._connect()
        return await self._send(connection, commands)

    async def _connect(self) -> RedisConnection:
        async with self._connecting:
            if self._connection is not None:
                return self._connection
            try:
                connection = await open_connection(self._address, self._receive, timeout_seconds=self._timeout_seconds)
            except TimeoutError:
                raise redis.TimeoutError("connecting took too long") from None
            except OSError as error:
                raise redis.ConnectionError("cannot connect") from error
            connection.on_lost = self._lost
            self._connection = connection
            if self._address.greeting:
                for reply in await self._send(connection, self._address.greeting):
                    if isinstance(reply, Exception):
                        connection.close()
                        raise redis.AuthenticationError("the server refused the login") from reply
            return connection

    def _send(self, connection: RedisConnection, commands: Sequence[tuple[Word, ...]]) -> asyncio.Future[list[Any]]:
        loop = asyncio.get_running_loop()
        pending = _Pending(len(commands), loop.time(), loop.create_future())
        self._pending.append(pending)
        connection.send(*commands)
        if not self._watching:
            self._watching = True
            loop.call_later(self._timeout_seconds, self._watch, connection)
        return pending.done

    def _receive(self, reply: Any) -> None:
        pending = self._pending[0]
        pending.replies.append(_as_error(reply) if isinstance(reply, hiredis.ReplyError) else reply)
        if len(pending.replies) == pending.count:
            self._pending.popleft()
            if not pending.done.done():
                pending.done.set_result(pending.replies)

    def _lost(self) -> None:
        self._connection = None
        self._fail(redis.ConnectionError("the connection was lost"))

    def _fail(self, error: Exception) -> None:
        failed, self._pending = self._pending, deque()
        for pending in failed:
            if not pending.done.done():
                pending.done.set_exception(error)

    def _watch(self, connection: RedisConnection, looked_at: float | None = None) -> None:
        """Called while commands are under way, to find out whether the oldest has waited too long."""
        loop = asyncio.get_running_loop()
        if not self._pending or connection is not self._connection:
            self._watching = False
            if self._pending and self._connection is not None:
                self._watching = True
                loop.call_later(self._timeout_seconds, self._watch, self._connection)
            return
        oldest = self._pending[0].sent_at
        waited = loop.time() - oldest
        if waited < self._timeout_seconds:
            loop.call_later(self._timeout_seconds - waited, self._watch, connection)
        elif looked_at != oldest:
            loop.call_later(_SECOND_LOOK_SECONDS, self._watch, connection, oldest)
        else:
            self._watching = False
            self._connection = None
            self._fail(redis.TimeoutError("the server did not answer in time"))
            connection.close()


def _as_error(reply: Exception) -> ResponseError:
    text = str(reply)
    return NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
