"""Gemini's protocol as the demo model speaks it, with the model and the manner in the path:

    POST /v1beta/models/<model>:streamGenerateContent?alt=sse      POST /v1beta/models/<model>:generateContent

Fields, chunks and errors follow https://ai.google.dev/api/generate-content and google.rpc.Status. A stream is to be
had as events only: without `alt=sse` the real one sends a JSON array. The wish to wait travels as `RetryInfo` in
the body and in no header, as it does there.
"""

import urllib.parse
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

PREFIX = "/v1beta/models/"

STREAM, WHOLE = "streamGenerateContent", "generateContent"

#: What an error is called, by its status.
_STATUSES = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_FINISH_REASONS: dict[FinishReason, str] = {"stop": "STOP", "length": "MAX_TOKENS"}

_encode = msgspec.json.Encoder().encode


class _Part(msgspec.Struct, frozen=True):
    """One part of a message; only parts with text count here."""

    text: str = ""


class _Content(msgspec.Struct, frozen=True):
    parts: list[_Part] = []
    role: Literal["user", "model"] | None = None

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts)


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    contents: Annotated[list[_Content], msgspec.Meta(min_length=1)]
    system_instruction: _Content | None = None
    #: The API takes proto field names as well, and litellm sends this one.
    system_instruction_by_its_proto_name: _Content | None = msgspec.field(name="system_instruction", default=None)
    generation_config: _Config = _Config()


_decode = msgspec.json.Decoder(_Request).decode


class GeminiProtocol:
    def owns(self, path: str) -> bool:
        return path.startswith("/v1beta/")

    def serves(self, path: str) -> bool:
        return path.startswith(PREFIX) and path.endswith((f":{STREAM}", f":{WHOLE}"))

    def parse(self, call: Call) -> Question:
        query = dict(urllib.parse.parse_qsl(call.query))
        _check(call.headers.get("x-goog-api-key") or query.get("key"))
        model, _, manner = call.path.removeprefix(PREFIX).rpartition(":")
        if manner == STREAM and query.get("alt") != "sse":
            raise Refusal(400, "The demo model streams events only: ask with alt=sse.")
        try:
            request = _decode(call.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            message, path = path_in(error)
            raise Refusal(400, f"Invalid value at '{path}': {message}" if path else message) from error
        system = request.system_instruction or request.system_instruction_by_its_proto_name
        return Question(
            model=model,
            messages=([Message("system", system.text)] if system else [])
            + [Message(_role(content), content.text) for content in request.contents],
            stream=manner == STREAM,
            limit_tokens=request.generation_config.max_output_tokens,
        )

    def writer(self, question: Question, usage: Usage) -> "_Writer":
        return _Writer(question, usage)

    def whole(self, question: Question, tokens: list[Token], reason: FinishReason, usage: Usage) -> bytes:
        parts: list[dict[str, object]] = [{"text": joined(tokens, "content")}]
        if thought := joined(tokens, "reasoning"):
            parts.insert(0, {"text": thought, "thought": True})
        return _encode({"candidates": [_end(parts, reason)], "usageMetadata": _usage(usage), **_names(question.model)})

    def refuse(self, refusal: Refusal) -> tuple[bytes, Headers]:
        return _encode(_error(refusal)), refusal.headers


class _Writer:
    """What all chunks share is encoded once, so a token costs a join."""

    def __init__(self, question: Question, usage: Usage) -> None:
        self._usage = usage
        self._names = _names(question.model)
        before = b'data: {"candidates":[{"content":{"parts":[{'
        self._before = {"content": before + b'"text":', "reasoning": before + b'"thought":true,"text":'}
        # until the end the prompt is all that is counted
        begun = {"promptTokenCount": usage.prompt, "totalTokenCount": usage.prompt}
        rest = _encode({"usageMetadata": begun, **self._names})[1:]
        self._after = b'}],"role":"model"},"index":0}],' + rest + b"\n\n"

    def open(self) -> bytes:
        return b""

    def write(self, tokens: Iterable[Token]) -> bytes:
        return b"".join(self._before[kind] + _encode(text) + self._after for kind, text in tokens)

    def close(self, reason: FinishReason) -> bytes:
        candidates = [_end([{"text": ""}], reason)]
        last = {"candidates": candidates, "usageMetadata": _usage(self._usage), **self._names}
        return b"data: " + _encode(last) + b"\n\n"

    def fail(self, refusal: Refusal) -> bytes:
        return b"data: " + _encode(_error(refusal)) + b"\n\n"


def _check(key: str | None) -> None:
    if not key:
        raise Refusal(403, "Method doesn't allow unregistered callers.")
    if key == WRONG_KEY:
        # a wrong key is a bad request here; these are the words by which clients know it
        raise Refusal(400, "API key not valid. Please pass a valid API key.")


def _role(content: _Content) -> str:
    return "assistant" if content.role == "model" else "user"


def _end(parts: list[dict[str, object]], reason: FinishReason) -> dict[str, object]:
    content = {"parts": parts, "role": "model"}
    return {"content": content, "finishReason": _FINISH_REASONS[reason], "index": 0}


def _usage(usage: Usage) -> dict[str, int]:
    counts = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": usage.answer - usage.reasoning,
        "totalTokenCount": usage.prompt + usage.answer,
    }
    return counts | ({"thoughtsTokenCount": usage.reasoning} if usage.reasoning else {})


def _names(model: str) -> dict[str, str]:
    return {"modelVersion": model, "responseId": uuid.uuid4().hex}


def _error(refusal: Refusal) -> dict[str, object]:
    default = "INTERNAL" if refusal.status >= 500 else "INVALID_ARGUMENT"
    error: dict[str, object] = {
        "code": refusal.status,
        "message": refusal.message,
        "status": _STATUSES.get(refusal.status, default),
    }
    if refusal.retry_after_seconds is not None:
        wish = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{refusal.retry_after_seconds}s"}
        error["details"] = [wish]
    return {"error": error}
