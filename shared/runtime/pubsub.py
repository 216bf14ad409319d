"""One subscriber connection to Redis: channels in, messages out, and a sign whenever something may have been missed.

Deliberate, beside redis-py's own Pub/Sub:

1. It never hides a reconnect. After every one it subscribes again, and each acknowledgement is told to the owner,
   who then reads the log: what was published in between is lost here and only here.
2. One task owns the connection. redis-py's breaks when one task reads while another subscribes.
3. Messages reach the owner as bytes in one plain call each: about half the CPU time of redis-py's.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

import hiredis
import structlog

from shared.runtime.connection import Address, RedisConnection, open_connection

#: The longest pause between two tries to connect.
_MAX_BACKOFF_SECONDS: Final = 1.0
#: A ping goes out when nothing has come for this long; after twice that the connection counts as dead.
_PING_SECONDS: Final = 2.0

_log = structlog.get_logger()


class Subscriptions:
    """Keeps a set of channels subscribed. `run` it as a task for as long as it is needed.

    `on_message(channel, payload)` is called for each message, `on_subscribed(channel)` for each acknowledgement, both
    on the event loop; they must not block and must not raise.
    """

    def __init__(
        self,
        url: str,
        *,
        sharded: bool,
        on_message: Callable[[bytes, bytes], None],
        on_subscribed: Callable[[bytes], None],
    ) -> None:
        self._address = Address(url)
        self._subscribe = b"SSUBSCRIBE" if sharded else b"SUBSCRIBE"
        self._unsubscribe = b"SUNSUBSCRIBE" if sharded else b"UNSUBSCRIBE"
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._channels: set[bytes] = set()
        self._connection: RedisConnection | None = None
        #: The server has answered something that is no error since the last connect.
        self._served = False

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    def subscribe(self, channel: bytes) -> None:
        """Ask for a channel. `on_subscribed` follows, now or when there is a connection again."""
        self._channels.add(channel)
        if self._connection is not None:
            self._connection.send((self._subscribe, channel))

    def unsubscribe(self, channel: bytes) -> None:
        """Let a channel go. A few messages of it may still come."""
        self._channels.discard(channel)
        if self._connection is not None:
            self._connection.send((self._unsubscribe, channel))

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        failures = 0
        while True:
            try:
                served = await self._connected_once()
                failures = 0 if served else failures + 1
            except (OSError, TimeoutError) as error:
                failures += 1
                _log.warning("pubsub_unreachable", exc_info=error)
            pause = min(_MAX_BACKOFF_SECONDS, 0.05 * 2 ** min(failures, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _connected_once(self) -> bool:
        """Be connected until that is over. Whether the server served us at all."""
        connection = await open_connection(self._address, self._receive, timeout_seconds=_PING_SECONDS)
        self._served = False
        try:
            connection.send(*self._address.greeting, *((self._subscribe, channel) for channel in self._channels))
            self._connection = connection
            await self._watch(connection)
        finally:
            self._connection = None
            connection.close()
        _log.warning("pubsub_lost")
        return self._served

    async def _watch(self, connection: RedisConnection) -> None:
        """Return when the connection is lost or dead."""
        while not connection.lost.is_set():
            silent = asyncio.get_running_loop().time() - connection.heard_at
            if silent >= 2 * _PING_SECONDS:
                return
            if silent >= _PING_SECONDS / 2:
                connection.send((b"PING",))
            try:
                async with asyncio.timeout(_PING_SECONDS / 2):
                    await connection.lost.wait()
            except TimeoutError:
                continue

    def _receive(self, reply: Any) -> None:
        self._served = self._served or not isinstance(reply, hiredis.ReplyError)
        if isinstance(reply, list) and len(reply) >= 2:
            kind = reply[0]
            if kind in (b"smessage", b"message"):
                self._on_message(reply[1], reply[2])
            elif kind in (b"ssubscribe", b"subscribe"):
                self._on_subscribed(reply[1])
        elif isinstance(reply, hiredis.ReplyError):
            _log.error("pubsub_refused")
            if self._connection is not None:
                self._connection.close()
