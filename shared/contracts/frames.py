"""The bytes of text/event-stream: the one place where SSE is written.

A frame is the text of one event below its `id:` line, blank line included:

    event: delta
    data: {"type":"delta","task_id":"task_…","content":"Hello"}

The writer of an event encodes the frame once; it is stored and published as it is, and the gateway puts the
id in front and passes it on. JSON leaves no raw line break in `data:`, and types and ids are ours, so no text
from a model or a user can forge a field.
"""

from typing import Final

from shared.contracts.events import Entry, Event, decode, encode, event_type

_DATA: Final = b"\ndata: "

#: A comment line: opens proxies that wait for the first byte.
OPENING_COMMENT: Final = b": ekiden\n\n"
#: A comment line that goes with each ping, for clients that watch bytes and not events.
PING_COMMENT: Final = b": ping\n\n"


def encode_frame(event: Event) -> bytes:
    """The frame of an event: everything of its SSE text but the `id:` line."""
    return b"event: " + event_type(event).encode() + _DATA + encode(event) + b"\n\n"


def decode_frame(frame: bytes) -> Entry:
    """The event in a frame that `encode_frame` made. Raises msgspec.DecodeError on anything else."""
    start = frame.index(_DATA) + len(_DATA)
    return decode(frame[start:-2])


def with_id(entry_id: bytes, frame: bytes) -> bytes:
    """A frame as it goes to a client, with the id that the client comes back with."""
    return b"id: " + entry_id + b"\n" + frame


def retry_frame(milliseconds: int) -> bytes:
    """Tells the client how long to wait before it connects again."""
    return b"retry: %d\n\n" % milliseconds
