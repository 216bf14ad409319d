"""An HTTP/1.1 connection that costs little: asyncio's plain protocol, parsed by httptools."""

import asyncio
from collections.abc import Callable
from typing import cast

import httptools


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection: one request at a time, kept open where the server keeps it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._done: asyncio.Future[None] | None = None
        self._consume: Callable[[bytes], None] = _ignore
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.usable = False

    async def exchange(self, request: bytes, consume: Callable[[bytes], None]) -> None:
        """Send a request and return when its response has ended; `consume` gets the body of a 200 piece by piece."""
        assert self._transport is not None
        self.headers, self._consume = {}, consume
        self._parser = httptools.HttpResponseParser(self)
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        await self._done

    def close(self) -> None:
        """Let the connection go."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are transports without deriving from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        if self._parser is not None:
            self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionError("the response broke off"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Called by httptools."""
        assert self._parser is not None
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by httptools for each piece."""
        if self.status == 200:
            self._consume(body)

    def on_message_complete(self) -> None:
        """Called by httptools."""
        assert self._parser is not None
        self.usable = self._parser.should_keep_alive()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


def _ignore(body: bytes) -> None:
    """What comes before anything was asked."""
