"""An entry of a task's log, as the stream stores it and as its published copy carries it.

In the stream an entry has the fields `p` (id of the entry before), `t` (type) and `f` (frame). The copy on
the channel is `<id> <p> <t> <frame>`: three words without spaces, then the frame's bytes.
"""

from typing import Any, NamedTuple


class LogEntry(NamedTuple):
    """One entry. All bytes, since the gateway passes them on without looking inside."""

    id: bytes
    previous: bytes
    type: bytes
    frame: bytes


def from_stream(entry_id: bytes, fields: dict[bytes, bytes]) -> LogEntry:
    """An entry by its id and fields."""
    return LogEntry(entry_id, fields[b"p"], fields[b"t"], fields[b"f"])


def from_reply(row: list[Any]) -> LogEntry:
    """An entry as a row of XRANGE's own reply: its id, then field, value, field, value."""
    entry_id, flat = row
    return from_stream(entry_id, dict(zip(flat[::2], flat[1::2], strict=True)))


def from_copy(payload: bytes) -> LogEntry:
    """An entry as it was published. Raises ValueError on a payload that is no entry."""
    entry_id, previous, type_, frame = payload.split(b" ", 3)
    return LogEntry(entry_id, previous, type_, frame)
