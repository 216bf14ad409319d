"""The demo model's HTTP side: a plain ASGI application.

    POST /v1/chat/completions   an answer, streamed or whole      GET /healthz   200 as long as it runs
    GET  /v1/models             names worth trying                GET /stats     what tests look at

Deliberate: every completion has its own watcher on `receive()`, so that a client's leaving is noticed while the
model is silent. A server that looks only when it sends would never notice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from demo.model.completion import complete
from demo.model.openai_protocol import ApiError, encode_models, parse_request
from demo.model.wire import Receive, Scope, Send, respond

Handler = Callable[[Receive, Send], Awaitable[None]]

#: Largest request body, in bytes: far more than a conversation, small enough to keep in memory.
MAX_BODY_BYTES = 4 * 1024 * 1024

#: What `GET /v1/models` lists. Any other combination of options works as well.
LISTED_MODELS = ("demo", "demo/rate=5", "demo/tokens=500", "demo/reasoning", "demo/echo", "demo/first=5")


def create_app() -> "DemoModel":
    return DemoModel()


@dataclass(slots=True)
class Stats:
    """Completion requests only. `cancelled` counts those that ended because the client went away."""

    open_connections: int = 0
    requests: int = 0
    cancelled: int = 0


class ClientLeft(Exception):
    """The client closed its connection."""


class DemoModel:
    """The ASGI application. Keeps nothing between two requests but `stats`."""

    def __init__(self) -> None:
        self.stats = Stats()
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", self.on_completion),
            "/v1/models": ("GET", self.on_models),
            "/healthz": ("GET", self.on_healthz),
            "/stats": ("GET", self.on_stats),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            path = scope["path"]
            if path not in self._routes:
                raise ApiError(404, f"Unknown path: {scope['method']} {path}", code="unknown_url")
            method, handler = self._routes[path]
            if scope["method"] != method:
                allow = (b"allow", method.encode())
                raise ApiError(405, f"{path} takes {method} only", code="method_not_allowed", headers=(allow,))
            await handler(receive, send)
        except ApiError as error:
            await respond(send, error.body, status=error.status, headers=error.headers)

    async def on_models(self, receive: Receive, send: Send) -> None:
        await respond(send, encode_models(LISTED_MODELS))

    async def on_healthz(self, receive: Receive, send: Send) -> None:
        await respond(send, b'{"status":"ok"}')

    async def on_stats(self, receive: Receive, send: Send) -> None:
        await respond(send, msgspec.json.encode(asdict(self.stats)))

    async def on_completion(self, receive: Receive, send: Send) -> None:
        self.stats.requests += 1
        self.stats.open_connections += 1
        try:
            request = parse_request(await _read_body(receive))
            await _until_client_leaves(complete(request, send), receive)
        except ClientLeft:
            self.stats.cancelled += 1
        finally:
            self.stats.open_connections -= 1


async def _until_client_leaves(work: Coroutine[Any, Any, None], receive: Receive) -> None:
    """Run `work` to its end, or raise `ClientLeft` as soon as the connection is closed."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_client_leaves(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _client_leaves(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise ApiError(400, f"The request body is larger than {MAX_BODY_BYTES} bytes.")
        if not message.get("more_body", False):
            return bytes(body)
