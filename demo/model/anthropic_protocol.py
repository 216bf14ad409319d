"""Anthropic's Messages protocol as the demo model speaks it: `POST /v1/messages`.

Fields, events and errors follow https://docs.anthropic.com/en/api/messages and /messages-streaming. A key and
`max_tokens` are required, as they are there; `anthropic-version` is not looked at.
"""

import uuid
from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec

from demo.model.protocol import (
    WRONG_KEY,
    Call,
    FinishReason,
    Headers,
    Message,
    Question,
    Refusal,
    Token,
    Usage,
    joined,
    path_in,
)

PATH = "/v1/messages"

#: What an error is called, by its status.
_ERROR_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}

_STOP_REASONS: dict[FinishReason, str] = {"stop": "end_turn", "length": "max_tokens"}

#: Names of a kind of token: its block, the block's field, and its delta.
_BLOCKS = {"content": ("text", "text", "text_delta"), "reasoning": ("thinking", "thinking", "thinking_delta")}

#: Stands for the cryptographic signature of a thought, which clients hand back unread.
_SIGNATURE = "ZWtpZGVu"

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True):
    """One block of a message; only blocks with text count here."""

    type: str
    text: str = ""


_Content = str | list[_Part]


class _Message(msgspec.Struct, frozen=True):
    role: Literal["user", "assistant"]
    content: _Content


class _Request(msgspec.Struct, frozen=True):
    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    system: _Content | None = None
    stream: bool = False


_decode = msgspec.json.Decoder(_Request).decode


class AnthropicProtocol:
    def owns(self, path: str) -> bool:
        return path == PATH or path.startswith(f"{PATH}/")

    def serves(self, path: str) -> bool:
        return path == PATH

    def parse(self, call: Call) -> Question:
        key = call.headers.get("x-api-key")
        if not key:
            raise Refusal(401, "x-api-key header is required")
        if key == WRONG_KEY:
            raise Refusal(401, "invalid x-api-key")
        try:
            request = _decode(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message, path = path_in(error)
            raise Refusal(400, f"{path}: {message}" if path else message) from error
        system = [] if request.system is None else [Message("system", _text(request.system))]
        return Question(
            model=request.model,
            messages=system + [Message(message.role, _text(message.content)) for message in request.messages],
            stream=request.stream,
            limit_tokens=request.max_tokens,
        )

    def writer(self, question: Question, usage: Usage) -> "_Writer":
        return _Writer(question, usage)

    def whole(self, question: Question, tokens: list[Token], reason: FinishReason, usage: Usage) -> bytes:
        content: list[dict[str, str]] = [{"type": "text", "text": joined(tokens, "content")}]
        if thinking := joined(tokens, "reasoning"):
            content.insert(0, {"type": "thinking", "thinking": thinking, "signature": _SIGNATURE})
        return _encode(_envelope(question.model, content, _STOP_REASONS[reason], usage.prompt, usage.answer))

    def refuse(self, refusal: Refusal) -> tuple[bytes, Headers]:
        headers = (*refusal.headers, (b"request-id", b"req_%s" % uuid.uuid4().hex.encode()))
        if refusal.retry_after_seconds is not None:
            headers = (*headers, (b"retry-after", b"%d" % refusal.retry_after_seconds))
        return _encode(_error(refusal)), headers


class _Writer:
    """A thought and a text are two blocks, each opened before its first token and closed after its last."""

    def __init__(self, question: Question, usage: Usage) -> None:
        self._model = question.model
        self._usage = usage
        self._block: str | None = None
        self._index = -1
        self._before = b""

    def open(self) -> bytes:
        # the one token that is counted already is the turn's beginning
        message = _envelope(self._model, [], None, self._usage.prompt, 1)
        return _event("message_start", message=message) + _event("ping")

    def write(self, tokens: Iterable[Token]) -> bytes:
        chunks = []
        for kind, text in tokens:
            if kind != self._block:
                chunks.append(self._end_of_block() + self._start_of_block(kind))
            chunks.append(self._before + _encode(text) + b"}}\n\n")
        return b"".join(chunks)

    def close(self, reason: FinishReason) -> bytes:
        opened = self._start_of_block("content") if self._block is None else b""  # an empty answer has a block too
        delta = {"stop_reason": _STOP_REASONS[reason], "stop_sequence": None}
        usage = {"output_tokens": self._usage.answer}
        end = _event("message_delta", delta=delta, usage=usage) + _event("message_stop")
        return opened + self._end_of_block() + end

    def fail(self, refusal: Refusal) -> bytes:
        return b"event: error\ndata: " + _encode(_error(refusal)) + b"\n\n"

    def _start_of_block(self, kind: str) -> bytes:
        block, field, delta = _BLOCKS[kind]
        self._block = kind
        self._index += 1
        # what all deltas of a block share is encoded once, so a token costs a join
        self._before = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
            b'"delta":{"type":"%s","%s":' % (self._index, delta.encode(), field.encode())
        )
        empty = {"type": block, field: ""} | ({"signature": ""} if kind == "reasoning" else {})
        return _event("content_block_start", index=self._index, content_block=empty)

    def _end_of_block(self) -> bytes:
        if self._block is None:
            return b""
        stop = _event("content_block_stop", index=self._index)
        if self._block == "reasoning":
            signature = {"type": "signature_delta", "signature": _SIGNATURE}
            return _event("content_block_delta", index=self._index, delta=signature) + stop
        return stop


def _event(name: str, **fields: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), _encode({"type": name, **fields}))


def _envelope(
    model: str, content: list[dict[str, str]], stop_reason: str | None, input_tokens: int, output_tokens: int
) -> dict[str, object]:
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens},
    }


def _text(content: _Content) -> str:
    return content if isinstance(content, str) else "".join(part.text for part in content)


def _error(refusal: Refusal) -> dict[str, object]:
    kind = _ERROR_TYPES.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": refusal.message}}
