"""ASGI's words, and an answer in one go or piece by piece."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")


async def respond(send: Send, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """A whole answer in JSON."""
    await start(send, status, (JSON, (b"content-length", b"%d" % len(body)), *headers))
    await write(send, body, more=False)


async def start(send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """The head of an answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def write(send: Send, body: bytes, *, more: bool = True) -> None:
    """A piece of the body; the last one where there is no more."""
    await send({"type": "http.response.body", "body": body, "more_body": more})
