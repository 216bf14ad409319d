"""What the three protocols share: the words between them and the flow of an answer, and what each must be able to do.

`completion` asks a protocol for a `Question`, plans the answer, and gives its tokens back to the protocol, which
knows how they look on the wire. What a protocol cannot take, and what the demo model will not do, is a `Refusal`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

FinishReason = Literal["stop", "length"]

Headers = tuple[tuple[bytes, bytes], ...]

#: What a 429 asks for, in seconds; a test checks that it arrives at the client.
RETRY_AFTER_SECONDS = 7

#: The one key that is refused, so that a test sees how a provider refuses one. Any other will do.
WRONG_KEY = "wrong"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One HTTP request. Names of headers are lower-case; `query` is what stands behind the question mark."""

    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes


class Message(NamedTuple):
    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A request in no protocol's words. `limit_tokens` is None where the answer may choose its length."""

    model: str
    messages: list[Message]
    stream: bool
    limit_tokens: int | None = None
    #: Whether the end of a stream tells the usage; only the OpenAI protocol leaves it to the client.
    wants_usage: bool = True


class Token(NamedTuple):
    """The smallest piece of an answer: thought aloud, or said."""

    kind: Literal["reasoning", "content"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Counts of tokens. `answer` holds all that the model made, `reasoning` the part of it that was thought."""

    prompt: int
    answer: int
    reasoning: int

    @classmethod
    def of(cls, messages: Iterable[Message], tokens: list[Token]) -> "Usage":
        """Count the answer exactly and the prompt as a real tokeniser roughly would: 4 bytes a token."""
        return cls(
            prompt=sum(4 + len(message.text.encode()) // 4 for message in messages),
            answer=len(tokens),
            reasoning=sum(token.kind == "reasoning" for token in tokens),
        )


class Refusal(Exception):
    """The demo model will not answer. `param` is where the fault lies, `code` what OpenAI calls it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_seconds = retry_after_seconds
        self.headers = headers


class ChunkWriter(Protocol):
    """Writes one stream. All it returns is bytes that may go out in one write."""

    def open(self) -> bytes:
        """What comes before the first token."""

    def write(self, tokens: Iterable[Token]) -> bytes:
        """One chunk per token."""

    def close(self, reason: FinishReason) -> bytes:
        """All that says that the answer is whole."""

    def fail(self, refusal: Refusal) -> bytes:
        """An error amid the stream."""


class ChatProtocol(Protocol):
    """One provider's way to be asked and to answer."""

    def owns(self, path: str) -> bool:
        """Whether a path is this protocol's, be it served or unknown."""

    def serves(self, path: str) -> bool:
        """Whether a completion is asked for at this path."""

    def parse(self, call: Call) -> Question:
        """Raise `Refusal` 400 where the body is no request, 401 or 403 where the key will not do."""

    def writer(self, question: Question, usage: Usage) -> ChunkWriter:
        """For an answer as a stream."""

    def whole(self, question: Question, tokens: list[Token], reason: FinishReason, usage: Usage) -> bytes:
        """The answer as one JSON object."""

    def refuse(self, refusal: Refusal) -> tuple[bytes, Headers]:
        """The body and the further headers of a refusal."""


def refusal_with(status: int) -> Refusal:
    """A refusal because the model's name asked for one."""
    message = f"The demo model refuses with status {status}, as its name asked."
    return Refusal(status, message, retry_after_seconds=RETRY_AFTER_SECONDS if status == 429 else None)


def joined(tokens: Iterable[Token], kind: Literal["reasoning", "content"]) -> str:
    """What was thought, or what was said."""
    return "".join(token.text for token in tokens if token.kind == kind)


def path_in(fault: Exception) -> tuple[str, str | None]:
    """What msgspec complains about, and where: "Expected `str`, got `int`" and "messages[0].role"."""
    message, _, path = str(fault).partition(" - at `$.")
    return message, path.rstrip("`") or None
