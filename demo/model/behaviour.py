"""How the demo model shall behave, read from the model name that the client asks for.

`demo` alone is a polite model. Options follow a slash, separated by commas, in any order:

    demo/rate=200,tokens=300,cut=50

    rate=30     tokens per second, 0 as fast as possible      echo        the last user message, byte for byte
    first=0.05  seconds before the first token                reasoning   think aloud before the answer
    tokens=90   length of the answer (an echo has its own)    status=429  refuse with this HTTP status
    stall=20    20 tokens, then silence                       silent      headers, then silence
    cut=20      20 tokens, then the connection breaks         hang        not even headers
    error=20    20 tokens, then an error in the stream
    noend=20    20 tokens, then a clean end of the body without anything that says that the answer is whole

A test that drives `openai/…`, `anthropic/…` or `gemini/…` needs names that look like those providers' own. The server
is told them when it starts (`--names demo,gemini-1.5-flash`), and they take the same options:

    gemini-1.5-flash/cut=50

The key `wrong` is refused in each provider's own way, whatever the model's name says.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: The names under which the demo model is known unless it is told others, without options.
NAMES = ("demo",)

#: Upper bound of every count of tokens: an answer is held in memory, 100,000 tokens are some 20 MB.
MAX_TOKENS = 100_000

#: Upper bound of `first`, in seconds: longer than any limit that a test would want to see exceeded.
MAX_FIRST_SECONDS = 3600.0

#: Upper bound of `rate`, in tokens per second; beyond it, 0 says what is meant.
MAX_RATE = 100_000.0

#: The smallest number that is not 0: the event loop's timers overflow on 1e-300 tokens per second.
SMALLEST = 0.001

FaultKind = Literal["stall", "cut", "noend", "error"]


class UnknownModel(ValueError):
    """The model name is not one of ours; the message says which part of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Where an answer goes wrong: after `after_tokens` tokens of any kind, reasoning included."""

    kind: FaultKind
    after_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """What one request asked for. `length_tokens` is None where the answer may choose."""

    tokens_per_second: float = 30.0
    first_token_seconds: float = 0.05
    length_tokens: int | None = None
    status: int | None = None
    fault: Fault | None = None
    hang: bool = False
    echo: bool = False
    reasoning: bool = False


def parse_model_name(model: str, names: Iterable[str] = NAMES) -> Behaviour:
    """Raise `UnknownModel` unless the whole name is understood: a typing error must not pass a test."""
    name, slash, tail = model.partition("/")
    if name not in names:
        raise UnknownModel(f"the demo model is called {', '.join(map(repr, names))}")
    options: dict[str, str | None] = {}
    for part in tail.split(",") if slash else []:
        key, equals, value = part.partition("=")
        if key in options:
            raise UnknownModel(f"the option {key!r} is there twice")
        options[key] = value if equals else None

    behaviour = Behaviour(
        tokens_per_second=_number(options, "rate", 30.0, most=MAX_RATE),
        first_token_seconds=_number(options, "first", 0.05, most=MAX_FIRST_SECONDS),
        length_tokens=_whole_number(options, "tokens", least=1, most=MAX_TOKENS),
        status=_whole_number(options, "status", least=400, most=599),
        fault=_fault(options),
        hang=_flag(options, "hang"),
        echo=_flag(options, "echo"),
        reasoning=_flag(options, "reasoning"),
    )
    if options:
        raise UnknownModel(f"it has no option {next(iter(options))!r}")
    return behaviour


def _fault(options: dict[str, str | None]) -> Fault | None:
    kinds: tuple[FaultKind, ...] = ("stall", "cut", "noend", "error")
    asked = [
        Fault(kind=kind, after_tokens=count)
        for kind in kinds
        if (count := _whole_number(options, kind, least=0, most=MAX_TOKENS)) is not None
    ]
    if _flag(options, "silent"):
        asked.append(Fault(kind="stall", after_tokens=0))
    if len(asked) > 1:
        raise UnknownModel("an answer goes wrong in one way only: stall, cut, noend, error or silent")
    return asked[0] if asked else None


def _flag(options: dict[str, str | None], key: str) -> bool:
    if key not in options:
        return False
    if options.pop(key) is not None:
        raise UnknownModel(f"the option {key!r} takes no value")
    return True


def _whole_number(options: dict[str, str | None], key: str, *, least: int, most: int) -> int | None:
    if key not in options:
        return None
    text = options.pop(key)
    # isascii as well, since "²".isdigit() is true and int("²") raises; len, since int() refuses 5,000 digits
    if not text or not (text.isascii() and text.isdigit()) or len(text) > 9 or not least <= int(text) <= most:
        raise UnknownModel(f"the option {key!r} wants a whole number from {least} to {most}")
    return int(text)


def _number(options: dict[str, str | None], key: str, default: float, *, most: float) -> float:
    if key not in options:
        return default
    try:
        number = float(options.pop(key) or "")
    except ValueError:
        number = math.nan
    if number != 0 and not SMALLEST <= number <= most:  # false for nan and inf as well
        raise UnknownModel(f"the option {key!r} wants 0 or a number from {SMALLEST:g} to {most:g}")
    return number
