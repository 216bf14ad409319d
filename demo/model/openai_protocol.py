"""The OpenAI chat protocol as the demo model speaks it: `POST /v1/chat/completions`.

Field names and shapes follow https://platform.openai.com/docs/api-reference/chat. Fields that are not
listed here are accepted and ignored, as any provider ignores some. A key is not asked for.
"""

import time
import uuid
from collections.abc import Iterable
from typing import Annotated

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

#: The last line of a stream that ended well.
DONE = b"data: [DONE]\n\n"

#: The field of `delta` in which a token travels. Reasoning has none in OpenAI's own API; this is what others use.
_FIELDS = {"content": "content", "reasoning": "reasoning_content"}

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True):
    """One part of a message; only parts with text count here."""

    type: str
    text: str = ""


class _Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[_Part] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    #: The newer name of `max_tokens`; it wins where both are given.
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


_decode = msgspec.json.Decoder(_Request).decode


class OpenAiProtocol:
    """Also the language in which paths are refused that nobody knows."""

    def owns(self, path: str) -> bool:
        return True

    def serves(self, path: str) -> bool:
        return path == "/v1/chat/completions"

    def parse(self, call: Call) -> Question:
        if call.headers.get("authorization") == f"Bearer {WRONG_KEY}":
            raise Refusal(401, "You have to give another key.")
        try:
            request = _decode(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message, path = path_in(error)
            raise Refusal(400, message, param=path) from error
        return Question(
            model=request.model,
            messages=[Message(message.role, message.text) for message in request.messages],
            stream=bool(request.stream),
            limit_tokens=request.max_completion_tokens or request.max_tokens,
            wants_usage=bool(request.stream_options and request.stream_options.include_usage),
        )

    def writer(self, question: Question, usage: Usage) -> "_Writer":
        return _Writer(question, usage)

    def whole(self, question: Question, tokens: list[Token], reason: FinishReason, usage: Usage) -> bytes:
        message = {"role": "assistant", "content": joined(tokens, "content")}
        if reasoning := joined(tokens, "reasoning"):
            message["reasoning_content"] = reasoning
        choices = [{"index": 0, "message": message, "finish_reason": reason}]
        envelope = _envelope("chat.completion", question.model)
        return _encode({**envelope, "choices": choices, "usage": _usage(usage)})

    def refuse(self, refusal: Refusal) -> tuple[bytes, Headers]:
        headers = refusal.headers
        if refusal.retry_after_seconds is not None:
            headers = (*headers, (b"retry-after", b"%d" % refusal.retry_after_seconds))
        return _encode(_error(refusal)), headers


class _Writer:
    """What all chunks share is encoded once, so a token costs a join."""

    def __init__(self, question: Question, usage: Usage) -> None:
        self._usage = usage if question.wants_usage else None
        self._head = b"data: " + _encode(_envelope("chat.completion.chunk", question.model))[:-1]
        # with include_usage every chunk but the last says "usage":null
        self._end = b',"usage":null}\n\n' if self._usage else b"}\n\n"
        self._start = self._head + b',"choices":[{"index":0,"delta":{'
        self._before = {kind: self._start + b'"%s":' % field.encode() for kind, field in _FIELDS.items()}
        self._after = b'},"finish_reason":null}]' + self._end

    def open(self) -> bytes:
        return self._start + b'"role":"assistant","content":""' + self._after

    def write(self, tokens: Iterable[Token]) -> bytes:
        return b"".join(self._before[kind] + _encode(text) + self._after for kind, text in tokens)

    def close(self, reason: FinishReason) -> bytes:
        choices = _encode([{"index": 0, "delta": {}, "finish_reason": reason}])
        chunks = self._head + b',"choices":' + choices + self._end
        if self._usage:
            chunks += self._head + b',"choices":[],"usage":' + _encode(_usage(self._usage)) + b"}\n\n"
        return chunks + DONE

    def fail(self, refusal: Refusal) -> bytes:
        return b"data: " + _encode(_error(refusal)) + b"\n\n"


def encode_models(names: Iterable[str]) -> bytes:
    """The answer to `GET /v1/models`."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "ekiden"} for name in names]
    return _encode({"object": "list", "data": models})


def _envelope(kind: str, model: str) -> dict[str, str | int]:
    id = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


def _usage(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt,
        "completion_tokens": usage.answer,
        "total_tokens": usage.prompt + usage.answer,
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning},
    }


def _error(refusal: Refusal) -> dict[str, object]:
    """The error that OpenAI sends with this status, as far as clients look at it."""
    message, kind, code = refusal.message, "invalid_request_error", refusal.code
    if refusal.status == 429:
        kind, code = "requests", "rate_limit_exceeded"
    elif refusal.status == 401:
        # litellm knows a bad key by these words; without them it reports a bad request
        message, code = f"Incorrect API key provided. {message}", "invalid_api_key"
    elif refusal.status >= 500:
        kind = "server_error"
    return {"error": {"message": message, "type": kind, "param": refusal.param, "code": code}}
