"""The demo model's HTTP side: a plain ASGI application.

    POST /v1/chat/completions         an answer as OpenAI gives it, streamed or whole
    POST /v1/messages                 the same as Anthropic gives it
    POST /v1beta/models/<model>:…     the same as Gemini gives it
    GET  /v1/models                   names worth trying, in OpenAI's words
    GET  /healthz                     200 as long as it runs
    GET  /stats                       what tests look at

Deliberate: every completion has its own watcher on `receive()`, so that a client's leaving is noticed while the
model is silent. A server that looks only when it sends would never notice.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from demo.model.anthropic_protocol import AnthropicProtocol
from demo.model.behaviour import NAMES
from demo.model.completion import complete
from demo.model.gemini_protocol import GeminiProtocol
from demo.model.openai_protocol import OpenAiProtocol, encode_models
from demo.model.protocol import Call, ChatProtocol, Refusal
from demo.model.wire import Receive, Scope, Send, respond

Page = Callable[[Send], Awaitable[None]]

#: Largest request body, in bytes: far more than a conversation, small enough to keep in memory.
MAX_BODY_BYTES = 4 * 1024 * 1024

#: What `GET /v1/models` lists. Any other combination of options works as well.
LISTED_MODELS = ("demo", "demo/rate=5", "demo/tokens=500", "demo/reasoning", "demo/echo", "demo/first=5")


#: The first that owns a path speaks there; the last owns all.
PROTOCOLS: tuple[ChatProtocol, ...] = (AnthropicProtocol(), GeminiProtocol(), OpenAiProtocol())


def create_app(names: Iterable[str] = NAMES) -> "DemoModel":
    """The demo model, known under `names`."""
    return DemoModel(tuple(names))


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

    def __init__(self, names: tuple[str, ...]) -> None:
        self.stats = Stats()
        self._names = names
        self._pages: dict[str, Page] = {
            "/v1/models": self.on_models,
            "/healthz": self.on_healthz,
            "/stats": self.on_stats,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        protocol = next(protocol for protocol in PROTOCOLS if protocol.owns(path))
        try:
            if page := self._pages.get(path):
                _check_method(method, path, "GET")
                await page(send)
            elif protocol.serves(path):
                _check_method(method, path, "POST")
                await self.on_completion(protocol, scope, receive, send)
            else:
                raise Refusal(404, f"Unknown path: {method} {path}", code="unknown_url")
        except Refusal as refusal:
            body, headers = protocol.refuse(refusal)
            await respond(send, body, status=refusal.status, headers=headers)

    async def on_models(self, send: Send) -> None:
        await respond(send, encode_models(LISTED_MODELS))

    async def on_healthz(self, send: Send) -> None:
        await respond(send, b'{"status":"ok"}')

    async def on_stats(self, send: Send) -> None:
        await respond(send, msgspec.json.encode(asdict(self.stats)))

    async def on_completion(self, protocol: ChatProtocol, scope: Scope, receive: Receive, send: Send) -> None:
        self.stats.requests += 1
        self.stats.open_connections += 1
        try:
            question = protocol.parse(await _read_call(scope, receive))
            await _until_client_leaves(complete(protocol, question, self._names, send), receive)
        except ClientLeft:
            self.stats.cancelled += 1
        finally:
            self.stats.open_connections -= 1


def _check_method(method: str, path: str, allowed: str) -> None:
    if method != allowed:
        headers = ((b"allow", allowed.encode()),)
        raise Refusal(405, f"{path} takes {allowed} only", code="method_not_allowed", headers=headers)


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


async def _read_call(scope: Scope, receive: Receive) -> Call:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    return Call(path=scope["path"], query=query, headers=headers, body=await _read_body(receive))


async def _read_body(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise Refusal(400, f"The request body is larger than {MAX_BODY_BYTES} bytes.")
        if not message.get("more_body", False):
            return bytes(body)
