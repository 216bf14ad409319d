"""One completion: what will be said, at which pace, and how it goes wrong where it is told to.

Deliberate:

1. A broken answer (`cut`) just returns without an end of the body: the ASGI server then closes the
   connection without the terminating chunk, which is what a client of a crashed provider sees.
2. Tokens that are late go out together in one write. Under load the pace is kept and writes get fewer.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

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
    refusal,
)
from demo.model.wire import JSON, Send, respond, start, write

#: Tokens per write at rate=0: few enough that the other streams get their turn between two writes.
BURST_TOKENS = 32

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What will be sent: all tokens, or those before the fault."""

    request: ChatRequest
    behaviour: Behaviour
    tokens: list[Token]
    finish_reason: FinishReason
    fault: FaultKind | None


async def complete(request: ChatRequest, send: Send) -> None:
    """Answer a request, or fail it in the way that its model name asks for. Raises ApiError before the first byte."""
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
    await start(send, 200, (EVENT_STREAM, NO_CACHE))
    async for group in _paced(answer.tokens, answer.behaviour):
        await write(send, opening + writer.tokens(group))
        opening = b""
    if answer.fault is None:
        usage = Usage.of(answer.request.messages, answer.tokens)
        await write(send, opening + writer.finish(answer.finish_reason, usage), more=False)
    else:
        await _go_wrong(answer.fault, b"", send)


async def _whole(answer: Answer, send: Send) -> None:
    """Take as long as a stream would. Where the answer goes wrong, half of its JSON was sent."""
    if answer.fault:
        await start(send, 200, (JSON,))
    async for _ in _paced(answer.tokens, answer.behaviour):
        pass
    usage = Usage.of(answer.request.messages, answer.tokens)
    body = encode_completion(answer.request, answer.tokens, answer.finish_reason, usage)
    if answer.fault is None:
        await respond(send, body)
    else:
        await _go_wrong(answer.fault, body[: len(body) // 2], send)


async def _go_wrong(fault: FaultKind, remainder: bytes, send: Send) -> None:
    if fault == "stall":
        await _forever()
    await write(send, remainder, more=fault == "cut")


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


async def _forever() -> None:
    await asyncio.get_running_loop().create_future()


def _behaviour(request: ChatRequest) -> Behaviour:
    try:
        return parse_model_name(request.model)
    except UnknownModel as error:
        message = f"The model {request.model!r} does not exist: {error}."
        raise ApiError(404, message, param="model", code="model_not_found") from error
