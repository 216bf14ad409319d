"""Where the tokens of one answer travel from the worker to Flask: a Pub/Sub channel, one SSE event a message."""

import json
import os

#: The Redis of the queue and of the channels.
STORE_URL = os.environ.get("PEER_STORE_URL", "redis://127.0.0.1:6379/0")

#: Events after which nothing follows.
ENDINGS = (b"event: completed", b"event: failed")


def name(task_id: str) -> str:
    """The channel of a task."""
    return f"chat:{task_id}"


def event(kind: str, **data: str) -> str:
    """An SSE event, in the shape of Ekiden's, so that one client reads both."""
    return f"event: {kind}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
