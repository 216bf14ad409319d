"""The ids of tasks and sessions, and of the entries in a task's log.

A task's id holds its bucket, one of 64, so that whoever knows the id knows where in a Redis Cluster
all of the task's keys live. The rest is 128 random bits: an id cannot be guessed.
"""

import re
import secrets
from typing import Final

#: Buckets that tasks are spread over. 64 keeps the sweep at 64 short calls a second and still lets a
#: Redis Cluster of up to 64 masters share the load. Part of every id: never change it for a live store.
BUCKETS: Final = 64

_TASK_ID: Final = re.compile(r"task_[0-3][0-9a-f]{33}\Z")
_SESSION_ID: Final = re.compile(r"sess_[0-9a-f]{32}\Z")
_ENTRY_ID: Final = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})\Z")

#: What the first entry of a log names as the entry before it.
BEFORE_FIRST: Final = "0-0"


def new_task_id() -> str:
    """A fresh task id: `task_`, two hex digits of bucket, 32 hex digits at random."""
    return f"task_{secrets.randbelow(BUCKETS):02x}{secrets.token_hex(16)}"


def new_session_id() -> str:
    """A fresh session id: `sess_` and 32 hex digits at random."""
    return f"sess_{secrets.token_hex(16)}"


def is_task_id(text: str) -> bool:
    """Whether `text` has the shape of a task id. Says nothing about whether the task exists."""
    return _TASK_ID.match(text) is not None


def is_session_id(text: str) -> bool:
    """Whether `text` has the shape of a session id. Says nothing about whether the session exists."""
    return _SESSION_ID.match(text) is not None


def is_entry_id(text: str) -> bool:
    """Whether `text` has the shape of a log entry's id, `<epoch>-<seq>`."""
    return _ENTRY_ID.match(text) is not None


def bucket_of(task_id: str) -> str:
    """The two hex digits in a task id that say which bucket the task is in."""
    return task_id[5:7]


def all_buckets() -> list[str]:
    """The names of all buckets, `00` to `3f`."""
    return [f"{number:02x}" for number in range(BUCKETS)]


def entry_order(entry_id: str) -> tuple[int, int]:
    """An entry id as (epoch, seq), which compare as the entries stand in the log."""
    epoch, seq = entry_id.split("-")
    return int(epoch), int(seq)
