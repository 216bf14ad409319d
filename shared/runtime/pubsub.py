"""One subscriber connection to Redis: channels in, messages out, and a sign whenever something may have been missed.

Deliberate, beside redis-py's own Pub/Sub:

1. It never hides a reconnect. After every one it subscribes again, and each acknowledgement is told to the owner,
   who then reads the log: what was published in between is lost here and only here.
2. One task owns the connection. redis-py's breaks when one task reads while another subscribes.
3. Messages reach the owner as bytes in one plain call each: about half the CPU time of redis-py's.
"""

import asyncio
import random
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
import structlog
from redis.connection import SSLConnection, parse_url

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
        self._address: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        self._prefix = b"S" if sharded else b""
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._channels: set[bytes] = set()
        self._connection: _Connection | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    def subscribe(self, channel: bytes) -> None:
        """Ask for a channel. `on_subscribed` follows, now or when there is a connection again."""
        self._channels.add(channel)
        if self._connection is not None:
            self._connection.send(self._prefix + b"SUBSCRIBE", channel)

    def unsubscribe(self, channel: bytes) -> None:
        """Let a channel go. A few messages of it may still come."""
        self._channels.discard(channel)
        if self._connection is not None:
            self._connection.send(self._prefix + b"UNSUBSCRIBE", channel)

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
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_PING_SECONDS):
            _, connection = await loop.create_connection(
                lambda: _Connection(self._receive),
                self._address.get("host", "127.0.0.1"),
                self._address.get("port", 6379),
                ssl=_tls(self._address),
            )
        try:
            if password := self._address.get("password"):
                user = self._address.get("username") or "default"
                connection.send(b"AUTH", user.encode(), password.encode())
            for channel in self._channels:
                connection.send(self._prefix + b"SUBSCRIBE", channel)
            self._connection = connection
            await self._watch(connection)
        finally:
            self._connection = None
            connection.close()
        _log.warning("pubsub_lost")
        return connection.served

    async def _watch(self, connection: "_Connection") -> None:
        """Return when the connection is lost or dead."""
        while not connection.lost.is_set():
            silent = asyncio.get_running_loop().time() - connection.heard_at
            if silent >= 2 * _PING_SECONDS:
                return
            if silent >= _PING_SECONDS / 2:
                connection.send(b"PING")
            try:
                async with asyncio.timeout(_PING_SECONDS / 2):
                    await connection.lost.wait()
            except TimeoutError:
                continue

    def _receive(self, reply: Any) -> None:
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


class _Connection(asyncio.Protocol):
    """A socket and its parser. Lives until it is lost; is never used again."""

    def __init__(self, receive: Callable[[Any], None]) -> None:
        self._receive = receive
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()
        #: The server has answered something that is no error.
        self.served = False
        self.heard_at = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports without deriving from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self.served = self.served or not isinstance(reply, hiredis.ReplyError)
            self._receive(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def send(self, *words: bytes) -> None:
        """Send one command; nothing is awaited."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(hiredis.pack_command(words))

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
        self.lost.set()


def _tls(address: dict[str, Any]) -> ssl.SSLContext | None:
    if address.get("connection_class") is not SSLConnection:
        return None
    context = ssl.create_default_context(cafile=address.get("ssl_ca_certs"))
    if address.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
