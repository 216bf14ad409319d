"""A session: an ordered list of turns. A turn is the user's message and the task that answers it.

The answer itself lives only in its task, so it is written once and cannot differ from what was streamed.
"""

from typing import Literal

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One chat message, as it is sent to a model."""

    role: Literal["system", "user", "assistant"]
    content: str


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message of the user's in a session. `at_ms` is the API's clock, for people to read."""

    task_id: str
    content: str
    at_ms: int


class AnsweredTurn(msgspec.Struct, frozen=True, kw_only=True):
    """A turn with what became of it. `answer` is the final or partial text, None while there is none."""

    turn: Turn
    status: str
    answer: str | None


def conversation(turns: list[AnsweredTurn], question: str) -> list[Message]:
    """The messages a model is sent to answer `question`.

    A turn that got no text, because its task failed or was cancelled before the first token, is left out as a
    whole: two questions in a row are refused by some models, and its question has usually been asked again.
    """
    messages: list[Message] = []
    for answered in turns:
        if answered.answer:
            messages.append(Message(role="user", content=answered.turn.content))
            messages.append(Message(role="assistant", content=answered.answer))
    messages.append(Message(role="user", content=question))
    return messages
