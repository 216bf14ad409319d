"""The demo model's HTTP side: a plain ASGI application.

    POST /v1/chat/completions   an answer, streamed or whole      GET /healthz   200 as long as it runs
    GET  /v1/models             names worth trying                GET /stats     what tests look at

Deliberate:

1. Every completion has its own watcher on `receive()`, so that a client's leaving is noticed while the
   model is silent. A server that looks only when it sends would never notice.
2. A broken answer (`cut`) just returns without an end of the body: the ASGI server then closes the
   connection without the terminating chunk, which is what a client of a crashed provider sees.
3. Tokens that are late go out together in one write. Under load the pace is kept and writes get fewer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from demo.model.answers import compose
from demo.model.behaviour import Behaviour, FaultKind, UnknownModel, parse_model_name
from demo.model.openai_protocol import (
    ApiError,
    ChatRequest,
    ChunkWriter,
    FinishReason,
    Token,
    Usage,
    encode_completion,
    encode_models,
    parse_request,
    refusal,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Handler = Callable[[Receive, Send], Awaitable[None]]

#: Largest request body, in bytes: far more than a conversation, small enough to keep in memory.
MAX_BODY_BYTES = 4 * 1024 * 1024

#: Tokens per write at rate=0: few enough that the other streams get their turn between two writes.
BURST_TOKENS = 32

#: What `GET /v1/models` lists. Any other combination of options works as well.
LISTED_MODELS = ("demo", "demo/rate=5", "demo/tokens=500", "demo/reasoning", "demo/echo", "demo/first=5")

JSON = (b"content-type", b"application/json")
EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-cache")


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
        if scope["type"] != "http":
            raise NotImplementedError("HTTP only")  # how ASGI declines lifespan and websocket
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
            await _respond(send, error.body, status=error.status, headers=error.headers)

    async def on_models(self, receive: Receive, send: Send) -> None:
        await _respond(send, encode_models(LISTED_MODELS))

    async def on_healthz(self, receive: Receive, send: Send) -> None:
        await _respond(send, b'{"status":"ok"}')

    async def on_stats(self, receive: Receive, send: Send) -> None:
        await _respond(send, msgspec.json.encode(asdict(self.stats)))

    async def on_completion(self, receive: Receive, send: Send) -> None:
        self.stats.requests += 1
        self.stats.open_connections += 1
        try:
            request = parse_request(await _read_body(receive))
            await _until_client_leaves(_complete(request, send), receive)
        except ClientLeft:
            self.stats.cancelled += 1
        finally:
            self.stats.open_connections -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What will be sent: all tokens, or those before the fault."""

    request: ChatRequest
    behaviour: Behaviour
    tokens: list[Token]
    finish_reason: FinishReason
    fault: FaultKind | None


async def _complete(request: ChatRequest, send: Send) -> None:
    behaviour = _behaviour(request)
    if behaviour.hang:
        await _forever()
    if behaviour.status:
        await asyncio.sleep(behaviour.first_token_seconds)
        raise refusal(behaviour.status)
    answer = _plan(request, behaviour)
    await (_stream(answer, send) if request.stream else _whole(answer, send))


def _plan(request: ChatRequest, behaviour: Behaviour) -> Answer:
    tokens = compose(request.messages, behaviour)
    finish_reason: FinishReason = "stop"
    if request.limit_tokens and len(tokens) > request.limit_tokens:
        tokens = tokens[: request.limit_tokens]
        finish_reason = "length"
    fault: FaultKind | None = None
    if behaviour.fault and behaviour.fault.after_tokens <= len(tokens):
        tokens = tokens[: behaviour.fault.after_tokens]
        fault = behaviour.fault.kind
    return Answer(request=request, behaviour=behaviour, tokens=tokens, finish_reason=finish_reason, fault=fault)


async def _stream(answer: Answer, send: Send) -> None:
    writer = ChunkWriter(answer.request)
    opening = writer.role  # travels with the first token
    await _start(send, 200, (EVENT_STREAM, NO_CACHE))
    async for group in _paced(answer.tokens, answer.behaviour):
        await _write(send, opening + writer.tokens(group))
        opening = b""
    if answer.fault is None:
        usage = Usage.of(answer.request.messages, answer.tokens)
        await _write(send, opening + writer.finish(answer.finish_reason, usage), more=False)
    else:
        await _go_wrong(answer.fault, b"", send)


async def _whole(answer: Answer, send: Send) -> None:
    """Take as long as a stream would. Where the answer goes wrong, half of its JSON was sent."""
    if answer.fault:
        await _start(send, 200, (JSON,))
    async for _ in _paced(answer.tokens, answer.behaviour):
        pass
    usage = Usage.of(answer.request.messages, answer.tokens)
    body = encode_completion(answer.request, answer.tokens, answer.finish_reason, usage)
    if answer.fault is None:
        await _respond(send, body)
    else:
        await _go_wrong(answer.fault, body[: len(body) // 2], send)


async def _go_wrong(fault: FaultKind, remainder: bytes, send: Send) -> None:
    if fault == "stall":
        await _forever()
    await _write(send, remainder, more=fault == "cut")


async def _paced(tokens: list[Token], behaviour: Behaviour) -> AsyncIterator[list[Token]]:
    """Yield the tokens as they fall due, late ones together."""
    loop = asyncio.get_running_loop()
    rate = behaviour.tokens_per_second
    begin = loop.time() + behaviour.first_token_seconds
    await asyncio.sleep(behaviour.first_token_seconds)
    sent = 0
    while sent < len(tokens):
        if rate:
            await asyncio.sleep(begin + sent / rate - loop.time())
            due = max(sent, int((loop.time() - begin) * rate)) + 1
        else:
            await asyncio.sleep(0)
            due = sent + BURST_TOKENS
        yield tokens[sent:due]
        sent = due


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


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


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


def _behaviour(request: ChatRequest) -> Behaviour:
    try:
        return parse_model_name(request.model)
    except UnknownModel as error:
        message = f"The model {request.model!r} does not exist: {error}."
        raise ApiError(404, message, param="model", code="model_not_found") from error


async def _respond(
    send: Send, body: bytes, *, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    await _start(send, status, (JSON, (b"content-length", b"%d" % len(body)), *headers))
    await _write(send, body, more=False)


async def _start(send: Send, status: int, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
