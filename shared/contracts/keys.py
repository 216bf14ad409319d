"""Every Redis key and channel that Ekiden uses, in one place.

The part in braces is the hash tag: keys that one script touches share it, so that the store can be a
Redis Cluster. A task's keys carry its bucket, a session's keys the session's own id.
"""

import hashlib
from typing import Final

from shared.contracts.ids import bucket_of

#: Task ids of cancelled tasks are published here; every worker listens and closes the provider.
CANCEL_CHANNEL: Final = "ekiden:cancel"


def task(task_id: str) -> str:
    """Hash: the state of a task, see contracts/tasks.py. No TTL until the task ends."""
    return f"ekiden:{{{bucket_of(task_id)}}}:task:{task_id}"


def log(task_id: str) -> str:
    """Stream: the task's events. Never trimmed while the task runs; expires after its end."""
    return f"ekiden:{{{bucket_of(task_id)}}}:log:{task_id}"


def channel(task_id: str) -> str:
    """Sharded Pub/Sub channel: a copy of each entry as it is appended to the log."""
    return f"ekiden:{{{bucket_of(task_id)}}}:live:{task_id}"


def pending(bucket: str) -> str:
    """Sorted set: tasks of a bucket that have not ended, by when the sweep must look at them (ms)."""
    return f"ekiden:{{{bucket}}}:pending"


def ended(bucket: str) -> str:
    """Sorted set: tasks of a bucket that have ended, by when (ms), for what is to follow an end."""
    return f"ekiden:{{{bucket}}}:ended"


def session(session_id: str) -> str:
    """Hash: owner, creation and active task of a session."""
    return f"ekiden:{{{session_id}}}:session"


def turns(session_id: str) -> str:
    """List: the user's messages of a session in order, each with the task that answers it (JSON)."""
    return f"ekiden:{{{session_id}}}:turns"


def turn_ids(session_id: str) -> str:
    """Set: the tasks of a session's turns, so that a message that comes twice is taken once."""
    return f"ekiden:{{{session_id}}}:turn_ids"


def to_write(task_id: str) -> list[str]:
    """What a write to a task's log touches, in the order `append` and `cancel` take it."""
    bucket = bucket_of(task_id)
    return [task(task_id), log(task_id), channel(task_id), pending(bucket), ended(bucket)]


def idempotency(owner: str, key: str) -> str:
    """String: what an owner's idempotency key stands for (JSON). The digest keeps the key's length bounded."""
    digest = hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest()
    return f"ekiden:{{{digest}}}:idempotency"
