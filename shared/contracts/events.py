"""The events of a task's log and stream, as the table in docs/events.md lists them.

Each struct is one kind of event and encodes to the `data:` line of its SSE frame, `type` first.
Unknown fields are ignored on decoding, so that a newer writer does not break an older reader.
"""

from typing import Any, Literal

import msgspec

from shared.contracts.errors import Problem


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer, as the provider reported them, or estimated where it reported none."""

    input_tokens: int
    output_tokens: int
    estimated: bool = False


class Timings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Milliseconds: from the POST to the worker, from there to the first text, from there to the end."""

    queue_ms: int
    first_token_ms: int | None = None
    total_ms: int


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What all events have in common; never sent as such."""

    task_id: str


class Created(Event, frozen=True, tag="created"):
    """The first entry of every log."""

    session_id: str
    model: str
    status: Literal["queued"] = "queued"


class Started(Event, frozen=True, tag="started"):
    """A worker has begun attempt `attempt`, `queue_ms` after the task was created."""

    attempt: int
    model: str
    queue_ms: int


class Delta(Event, frozen=True, tag="delta"):
    """The next piece of the answer's text."""

    content: str


class Reasoning(Event, frozen=True, tag="reasoning"):
    """The next piece of what the model thinks aloud."""

    content: str


class Reset(Event, frozen=True, tag="reset"):
    """The text that stands: it replaces what the client has. Empty when the answer starts afresh."""

    content: str
    reasoning: str
    reason: str
    attempt: int


class Completed(Event, frozen=True, tag="completed", omit_defaults=True):
    """The whole answer. `sha256` is the hex digest of `content` in UTF-8."""

    content: str
    finish_reason: str
    usage: Usage
    timings: Timings
    sha256: str
    cached: bool = False


class Failed(Event, frozen=True, tag="failed", omit_defaults=True):
    """The task ended without a whole answer; `partial` is the text so far."""

    problem: Problem
    partial: str


class Cancelled(Event, frozen=True, tag="cancelled", omit_defaults=True):
    """Somebody stopped the task; `partial` is the text so far."""

    by: str
    partial: str
    usage: Usage | None = None


class Snapshot(Event, frozen=True, tag="snapshot"):
    """All that a client should have by the entry whose id it bears; replaces what the client has."""

    content: str
    reasoning: str
    status: str
    attempt: int


class Resync(Event, frozen=True, tag="resync"):
    """What the client has cannot be continued; a `snapshot` follows."""

    reason: Literal["trimmed", "lost", "unknown_cursor"]


class Reconnect(Event, frozen=True, tag="reconnect"):
    """The server is about to close this connection, the task goes on: connect again."""

    reason: Literal["drain", "max_age", "slow"]


class Ping(Event, frozen=True, tag="ping"):
    """The connection lives though nothing happens."""


Entry = Created | Started | Delta | Reasoning | Reset | Completed | Failed | Cancelled
Terminal = Completed | Failed | Cancelled

#: Types of the entries after which nothing more comes.
TERMINAL_TYPES: frozenset[str] = frozenset({"completed", "failed", "cancelled"})

_decoder: msgspec.json.Decoder[Entry] = msgspec.json.Decoder(Entry)
_encoder = msgspec.json.Encoder()


def event_type(event: Event) -> str:
    """The event's name on the wire, such as `delta`."""
    tag: Any = event.__struct_config__.tag
    return str(tag)


def encode(event: Event) -> bytes:
    """One line of JSON. Control characters are escaped, so no text can end the line."""
    return _encoder.encode(event)


def decode(data: bytes) -> Entry:
    """The inverse of `encode` for entries of a log. Raises msgspec.DecodeError on anything else."""
    return _decoder.decode(data)
