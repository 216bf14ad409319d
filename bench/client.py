"""The client of all relays: POSTs a message, follows a redirect, reads server-sent events, notes when they came.

It shares the machine's cores with those it measures, so it does little: HTTP is parsed by httptools, the time is taken
in the callback that gets the bytes, and JSON is decoded only once the answer has ended.
"""

import asyncio
import time
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools
import msgspec

from bench.answers import Answer, Ask, Batch

#: Seconds after which an answer counts as lost. Fifty, four at a time, take the old design 14 s here.
ANSWER_SECONDS = 60.0

#: Redirects that are followed: one leads from Ekiden's API to its gateway.
MAX_REDIRECTS = 2

_ENDINGS = (b"completed", b"failed", b"cancelled")


class Said(msgspec.Struct):
    """The part of a `delta` that is read."""

    content: str


_decode = msgspec.json.Decoder(Said).decode


class EventReader:
    """Splits a body into events; keeps the deltas, and when the first and the terminal one came."""

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.ended_at: float | None = None
        self.ending = ""
        self._deltas: list[bytes] = []
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        now = time.perf_counter()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            kind = payload = b""
            for line in event.split(b"\n"):
                if line.startswith(b"data: "):
                    payload = line[6:]
                elif line.startswith(b"event: "):
                    kind = line[7:]
            if kind == b"delta":
                self.first_at = self.first_at or now
                self._deltas.append(payload)
            elif kind in _ENDINGS:
                self.ended_at, self.ending = now, kind.decode()

    def text(self) -> str:
        """All deltas joined."""
        return "".join(_decode(delta).content for delta in self._deltas)


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


class Visitor:
    """One user: asks one thing at a time and keeps its connections, as a browser does."""

    def __init__(self) -> None:
        self._connections: dict[str, Connection] = {}

    async def ask(self, url: str, body: bytes) -> Answer:
        """POST a message and read its answer to the end."""
        reader = EventReader()
        fault = ""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                fault = await self._follow(url, body, reader)
        except (OSError, httptools.HttpParserError) as error:  # TimeoutError is an OSError
            fault = str(error) or type(error).__name__
        ended = reader.ended_at or time.perf_counter()
        if not fault and reader.ending != "completed":
            fault = reader.ending or "the stream ended without an ending"
        return Answer(
            text=reader.text(),
            first_seconds=(reader.first_at or ended) - began,
            total_seconds=ended - began,
            fault=fault,
        )

    def close(self) -> None:
        """Let all connections go."""
        for connection in self._connections.values():
            connection.close()

    async def _follow(self, url: str, body: bytes, reader: EventReader) -> str:
        request = _post(url, body)
        for _ in range(MAX_REDIRECTS):
            connection = await self._connection(url)
            await connection.exchange(request, reader.feed)
            if connection.status != 303:
                break
            url = connection.headers[b"location"].decode()
            request = _get(url)
        return "" if connection.status == 200 else f"HTTP status {connection.status}"

    async def _connection(self, url: str) -> Connection:
        origin = urlsplit(url).netloc
        connection = self._connections.get(origin)
        if connection is None or not connection.usable:
            host, _, port = origin.partition(":")
            _, connection = await asyncio.get_running_loop().create_connection(Connection, host, int(port))
            self._connections[origin] = connection
        return connection


async def ask_at_once(visitors: list[Visitor], url: str, asked: Ask) -> Batch:
    """All visitors ask at one moment."""
    body = msgspec.json.encode({"message": asked.message, "model": asked.model})
    began = time.perf_counter()
    answers = await asyncio.gather(*(visitor.ask(url, body) for visitor in visitors))
    return Batch(answers=answers, wall_seconds=time.perf_counter() - began)


def _ignore(body: bytes) -> None:
    """What comes before anything was asked."""


def _post(url: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _get(url: str) -> bytes:
    parts = urlsplit(url)
    return (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode()
    )
