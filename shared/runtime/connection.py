"""One socket to Redis on an event loop, and its parser. Nothing waits here: bytes leave at once, replies are called."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis.connection import SSLConnection, parse_url

#: A word of a command.
Word = str | bytes | int


class Address:
    """Where a server is and how to log in, from a redis:// or rediss:// URL. Raises ValueError on any other."""

    def __init__(self, url: str) -> None:
        parts: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
        self.host: Final[str] = parts.get("host", "127.0.0.1")
        self.port: Final[int] = parts.get("port", 6379)
        self.tls: Final = _tls(parts)
        #: Commands that every new connection begins with.
        self.greeting: Final[list[tuple[Word, ...]]] = []
        if password := parts.get("password"):
            self.greeting.append(("AUTH", parts.get("username") or "default", password))
        if database := parts.get("db"):
            self.greeting.append(("SELECT", database))


class RedisConnection(asyncio.Protocol):
    """Lives until it is lost; is never used again. `receive` is called with each reply, in order, `on_lost` once."""

    def __init__(self, receive: Callable[[Any], None], on_lost: Callable[[], None]) -> None:
        self._receive = receive
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self.lost = asyncio.Event()
        #: When the last bytes came, by the loop's clock.
        self.heard_at = asyncio.get_running_loop().time()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        # uvloop's transports are transports without deriving from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self.heard_at = asyncio.get_running_loop().time()
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            self._receive(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._end()

    def send(self, *commands: tuple[Word, ...]) -> None:
        """Send commands, in one write. Nothing is awaited; what is sent on a lost connection is lost with it."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(hiredis.pack_command(command) for command in commands))

    def close(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()
        self._end()

    def _end(self) -> None:
        if not self.lost.is_set():
            self.lost.set()
            self._on_lost()


async def open_connection(
    address: Address,
    receive: Callable[[Any], None],
    *,
    timeout_seconds: float,
    on_lost: Callable[[], None] = lambda: None,
) -> RedisConnection:
    """Connect; nothing is sent yet. It may be lost by the time this returns. Raises OSError or TimeoutError."""
    async with asyncio.timeout(timeout_seconds):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: RedisConnection(receive, on_lost), address.host, address.port, ssl=address.tls
        )
    return connection


def _tls(parts: dict[str, Any]) -> ssl.SSLContext | None:
    if parts.get("connection_class") is not SSLConnection:
        return None
    context = ssl.create_default_context(cafile=parts.get("ssl_ca_certs"))
    if parts.get("ssl_cert_reqs") == "none":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
