"""What came of asking: the figures of one answer, and of those asked for together."""

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer as its client saw it. Seconds since just before the request; `fault` is empty where all went well."""

    text: str
    first_seconds: float
    total_seconds: float
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Answers asked for at one moment, and the seconds until the last of them had ended."""

    answers: list[Answer]
    wall_seconds: float


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a subject is asked: a message to a model, so many times at once."""

    model: str
    message: str
    at_once: int = 1


def fault_of(answer: Answer, expected: str) -> str:
    """Why an answer does not count; empty where it does: every byte of it came."""
    if answer.fault:
        return answer.fault
    if answer.text != expected:
        return f"{len(answer.text)} characters came, not the {len(expected)} of the model's answer"
    return ""
