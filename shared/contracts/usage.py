"""Tokens of an answer whose provider reported none: an estimate, and marked as one."""

from collections.abc import Iterable
from typing import Final

from shared.contracts.events import Usage
from shared.contracts.sessions import Message

#: Bytes of UTF-8 that count as one token: about right for English, and for Japanese with its three bytes a character.
BYTES_PER_TOKEN: Final = 4


def bytes_of(messages: Iterable[Message]) -> int:
    """Bytes of UTF-8 in the text of messages."""
    return sum(len(message.content.encode()) for message in messages)


def estimate(*, asked_bytes: int, answered_bytes: int) -> Usage:
    """Usage by length, rounded up."""
    return Usage(
        input_tokens=-(-asked_bytes // BYTES_PER_TOKEN),
        output_tokens=-(-answered_bytes // BYTES_PER_TOKEN),
        estimated=True,
    )
