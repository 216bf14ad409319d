"""What a model says, piece by piece: the words between a provider's adapter and the worker."""

import msgspec

from shared.contracts.events import Usage
from shared.contracts.sessions import Message


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a model is asked. `max_seconds` is a backstop at the provider's client, which must not be relied on:

    litellm takes it as the longest silence, and where it streams from Gemini not at all.
    """

    model: str
    messages: list[Message]
    max_seconds: float


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk of an answer; any part may be missing. `finish_reason` comes once, near the end."""

    content: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
