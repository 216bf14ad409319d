"""The client of all relays: POSTs a message, follows a redirect, reads server-sent events, notes when they came.

It shares the machine's cores with those it measures, so it does little: HTTP is parsed by httptools, the time is taken
in the callback that gets the bytes, and JSON is decoded only once the answer has ended.
"""

import asyncio
import time
from urllib.parse import urlsplit

import httptools
import msgspec

from bench.answers import Answer, Ask, Batch
from bench.connection import Connection
from bench.event_reader import EventReader

#: Seconds after which an answer counts as lost. Fifty, four at a time, take the old design 14 s here.
ANSWER_SECONDS = 60.0

#: Redirects that are followed: one leads from Ekiden's API to its gateway.
MAX_REDIRECTS = 1


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
        for _ in range(1 + MAX_REDIRECTS):
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


def _post(url: str, body: bytes) -> bytes:
    parts = urlsplit(url)
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    return f"{head}Accept: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _get(url: str) -> bytes:
    parts = urlsplit(url)
    return (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode()
    )
