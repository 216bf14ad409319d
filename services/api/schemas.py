"""What clients send and get."""

from typing import Annotated, Any

import falcon
import msgspec

from shared.contracts.errors import Problem
from shared.contracts.events import Timings, Usage


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /chat and POST /chat/stream. A field that is not served is refused, not ignored."""

    message: Annotated[str, msgspec.Meta(min_length=1)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    session_id: Annotated[str, msgspec.Meta(max_length=200)] | None = None


class Urls(msgspec.Struct, frozen=True, kw_only=True, rename={"self_": "self"}):
    """Where a task is to be found."""

    self_: str
    events: str
    cancel: str


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """The 202: the task exists and will come to an end, whatever happens to us."""

    task_id: str
    session_id: str
    status: str
    urls: Urls
    events_token: str


class TaskView(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task as its owner sees it. `content` is the final text, or the text so far."""

    task_id: str
    session_id: str
    status: str
    model: str
    attempt: int
    content: str
    last_event_id: str
    created_ms: int
    urls: Urls
    reasoning: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    problem: Problem | None = None


class SessionMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message of a session's history. `status` is that of the task it belongs to."""

    role: str
    content: str
    task_id: str
    status: str


class SessionView(msgspec.Struct, frozen=True, kw_only=True):
    """A session's history, and the task that is answering now, if one is."""

    session_id: str
    created_ms: int
    messages: list[SessionMessage]
    active_task_id: str | None


class ModelsView(msgspec.Struct, frozen=True, kw_only=True):
    """The models that may be asked for, as patterns, and the one that is used when none is named."""

    default: str
    models: list[str]


def write_body(resp: falcon.Response, body: Any) -> None:
    """Answer with `body` as JSON."""
    resp.data = msgspec.json.encode(body)
    resp.content_type = falcon.MEDIA_JSON
