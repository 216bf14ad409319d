"""The OpenAI chat protocol as the demo model speaks it: requests in, chunks, answers and errors out.

Field names and shapes follow https://platform.openai.com/docs/api-reference/chat. Fields that are not
listed here are accepted and ignored, as any provider ignores some.
"""

import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Literal, NamedTuple

import msgspec

FinishReason = Literal["stop", "length"]

#: The last line of a stream that ended well.
DONE = b"data: [DONE]\n\n"

#: What a 429 asks for, in seconds; a test checks that it arrives at the client.
RETRY_AFTER_SECONDS = 7

_encode = msgspec.json.Encoder().encode


class ContentPart(msgspec.Struct, frozen=True):
    """One part of a message; only parts with text count here."""

    type: str
    text: str = ""


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str | list[ContentPart] | None = None

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    model: str
    messages: Annotated[list[Message], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    #: The newer name of `max_tokens`; it wins where both are given.
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None

    @property
    def limit_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_tokens

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


_decode_request = msgspec.json.Decoder(ChatRequest).decode


class Token(NamedTuple):
    """The smallest piece of an answer, and the field of `delta` in which it travels."""

    field: Literal["reasoning_content", "content"]
    text: str


class CompletionTokensDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int


class Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    completion_tokens_details: CompletionTokensDetails

    @classmethod
    def of(cls, messages: Iterable[Message], tokens: list[Token]) -> "Usage":
        """Count the answer exactly and the prompt as a real tokeniser roughly would: 4 bytes a token."""
        prompt = sum(4 + len(message.text.encode()) // 4 for message in messages)
        details = CompletionTokensDetails(sum(token.field == "reasoning_content" for token in tokens))
        return cls(prompt, len(tokens), prompt + len(tokens), details)


class ApiError(Exception):
    """A refusal as OpenAI words it. Carries the HTTP status and further headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers
        self.body = _encode({"error": {"message": message, "type": type, "param": param, "code": code}})


def parse_request(body: bytes) -> ChatRequest:
    """Raise `ApiError` 400 where the body is no chat request."""
    try:
        return _decode_request(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # "Expected `str`, got `int` - at `$.messages[0].role`": the field belongs into `param`
        message, _, path = str(error).partition(" - at `$.")
        raise ApiError(400, message, param=path.rstrip("`") or None) from error


def refusal(status: int) -> ApiError:
    """The error that OpenAI sends with this status, as far as clients look at it."""
    message = f"The demo model refuses with status {status}, as its name asked."
    if status == 429:
        headers = ((b"retry-after", b"%d" % RETRY_AFTER_SECONDS),)
        return ApiError(429, message, type="requests", code="rate_limit_exceeded", headers=headers)
    if status == 401:
        # litellm knows a bad key by these words; without them it reports a bad request
        return ApiError(401, f"Incorrect API key provided. {message}", code="invalid_api_key")
    return ApiError(status, message, type="server_error" if status >= 500 else "invalid_request_error")


class ChunkWriter:
    """Writes the chunks of one stream. What all chunks share is encoded once, so a token costs a join."""

    def __init__(self, request: ChatRequest) -> None:
        self._wants_usage = request.wants_usage
        self._head = _encode(_envelope("chat.completion.chunk", request.model))[:-1]
        # with include_usage every chunk but the last says "usage":null
        self._end = b',"usage":null}\n\n' if self._wants_usage else b"}\n\n"
        start = b"data: " + self._head + b',"choices":[{"index":0,"delta":{'
        self._before = {
            "content": start + b'"content":',
            "reasoning_content": start + b'"reasoning_content":',
        }
        self._after = b'},"finish_reason":null}]' + self._end
        self.role = start + b'"role":"assistant","content":""' + self._after

    def tokens(self, tokens: Iterable[Token]) -> bytes:
        """One chunk per token, as bytes that may go out in one write."""
        return b"".join(self._before[field] + _encode(text) + self._after for field, text in tokens)

    def finish(self, reason: FinishReason, usage: Usage) -> bytes:
        """The last chunk, the usage where it was asked for, and `[DONE]`."""
        choices = _encode([{"index": 0, "delta": {}, "finish_reason": reason}])
        chunks = b"data: " + self._head + b',"choices":' + choices + self._end
        if self._wants_usage:
            chunks += b"data: " + self._head + b',"choices":[],"usage":' + _encode(usage) + b"}\n\n"
        return chunks + DONE


def encode_completion(request: ChatRequest, tokens: list[Token], reason: FinishReason, usage: Usage) -> bytes:
    """The whole answer as one JSON object, for a request without `stream`."""
    message = {"role": "assistant", "content": _joined(tokens, "content")}
    if reasoning := _joined(tokens, "reasoning_content"):
        message["reasoning_content"] = reasoning
    choices = [{"index": 0, "message": message, "finish_reason": reason}]
    return _encode({**_envelope("chat.completion", request.model), "choices": choices, "usage": usage})


def encode_models(names: Iterable[str]) -> bytes:
    """The answer to `GET /v1/models`."""
    models = [{"id": name, "object": "model", "created": 0, "owned_by": "ekiden"} for name in names]
    return _encode({"object": "list", "data": models})


def _envelope(kind: str, model: str) -> dict[str, str | int]:
    id = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": id, "object": kind, "created": int(time.time()), "model": model}


def _joined(tokens: list[Token], field: str) -> str:
    return "".join(token.text for token in tokens if token.field == field)
