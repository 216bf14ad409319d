"""One completion: what will be said, at which pace, and how it goes wrong where it is told to.

Deliberate:

1. A broken answer (`cut`) just returns without an end of the body: the ASGI server then closes the
   connection without the terminating chunk, which is what a client of a crashed provider sees.
2. Tokens that are late go out together in one write. Under load the pace is kept and writes get fewer.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from demo.model.answers import compose
from demo.model.behaviour import Behaviour, FaultKind, UnknownModel, parse_model_name
from demo.model.protocol import ChatProtocol, FinishReason, Question, Refusal, Token, Usage, refusal_with
from demo.model.wire import JSON, Send, respond, start, write

#: Tokens per write at rate=0: few enough that the other streams get their turn between two writes.
BURST_TOKENS = 32

EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
NO_CACHE = (b"cache-control", b"no-cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What will be sent: all tokens, or those before the fault."""

    question: Question
    behaviour: Behaviour
    tokens: list[Token]
    finish_reason: FinishReason
    fault: FaultKind | None

    @property
    def usage(self) -> Usage:
        return Usage.of(self.question.messages, self.tokens)


async def complete(protocol: ChatProtocol, question: Question, names: Iterable[str], send: Send) -> None:
    """Answer a question, or fail it in the way that its model name asks for. Raises Refusal before the first byte."""
    behaviour = _behaviour(question.model, names)
    if behaviour.hang:
        await _forever()
    if behaviour.status:
        await asyncio.sleep(behaviour.first_token_seconds)
        raise refusal_with(behaviour.status)
    answer = _plan(question, behaviour)
    await (_stream if question.stream else _whole)(protocol, answer, send)


def _plan(question: Question, behaviour: Behaviour) -> Answer:
    tokens = compose(question.messages, behaviour)
    finish_reason: FinishReason = "stop"
    if question.limit_tokens and len(tokens) > question.limit_tokens:
        tokens = tokens[: question.limit_tokens]
        finish_reason = "length"
    fault: FaultKind | None = None
    if behaviour.fault and behaviour.fault.after_tokens <= len(tokens):
        tokens = tokens[: behaviour.fault.after_tokens]
        fault = behaviour.fault.kind
    return Answer(question=question, behaviour=behaviour, tokens=tokens, finish_reason=finish_reason, fault=fault)


async def _stream(protocol: ChatProtocol, answer: Answer, send: Send) -> None:
    writer = protocol.writer(answer.question, answer.usage)
    opening = writer.open()  # travels with the first token
    await start(send, 200, (EVENT_STREAM, NO_CACHE))
    async for group in _paced(answer.tokens, answer.behaviour):
        await write(send, opening + writer.write(group))
        opening = b""
    if answer.fault is None:
        await write(send, opening + writer.close(answer.finish_reason), more=False)
    elif answer.fault == "error":
        await write(send, opening + writer.fail(refusal_with(503)), more=False)
    else:
        await _go_wrong(answer.fault, b"", send)


async def _whole(protocol: ChatProtocol, answer: Answer, send: Send) -> None:
    """Take as long as a stream would. Where the answer goes wrong, half of its JSON was sent."""
    broken = answer.fault is not None and answer.fault != "error"
    if broken:
        await start(send, 200, (JSON,))
    async for _ in _paced(answer.tokens, answer.behaviour):
        pass
    body = protocol.whole(answer.question, answer.tokens, answer.finish_reason, answer.usage)
    if answer.fault is None:
        await respond(send, body)
    elif answer.fault == "error":
        raise refusal_with(503)
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


def _behaviour(model: str, names: Iterable[str]) -> Behaviour:
    try:
        return parse_model_name(model, names)
    except UnknownModel as error:
        message = f"The model {model!r} does not exist: {error}."
        raise Refusal(404, message, param="model", code="model_not_found") from error
