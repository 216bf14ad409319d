"""What clients send and get, and how a body becomes a request: checked whole, before anything is done."""

import re
from typing import Annotated, Any, Final, TypeVar

import falcon
import msgspec

from shared.contracts.errors import InvalidInput, Problem
from shared.contracts.events import Timings, Usage

#: What a JSON body may be called. Anything else is 415.
_JSON: Final = "application/json"

_WRONG = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?\Z", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<field>.*)`\Z", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<field>.*)`\Z", re.DOTALL)
_EXPECTED_TYPE = re.compile(r"Expected `(?P<expected>[^`]+)`")

T = TypeVar("T")


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


def read_body(req: falcon.Request, body_type: type[T], *, max_bytes: int) -> tuple[T, bytes]:
    """The request's JSON body as `body_type`, and its bytes. Raises InvalidInput."""
    content_type = (req.content_type or "").partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise InvalidInput("unsupported_media_type", "The body must be JSON: Content-Type: application/json.")
    if (req.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    raw = req.stream.read(max_bytes + 1)
    if len(raw) > max_bytes:
        raise _too_large(max_bytes)
    if not raw:
        raise InvalidInput("empty_body", "The request has no body.")
    return decode(raw, body_type), raw


def decode(raw: bytes, body_type: type[T]) -> T:
    """JSON bytes as `body_type`. Raises InvalidInput with the path of the first fault."""
    try:
        return msgspec.json.decode(raw, type=body_type)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("malformed_json", "The body is not well-formed JSON in UTF-8.") from None


def write_body(resp: falcon.Response, body: Any) -> None:
    """Answer with `body` as JSON."""
    resp.data = msgspec.json.encode(body)
    resp.content_type = falcon.MEDIA_JSON


def _invalid(text: str) -> InvalidInput:
    match = _WRONG.match(text)
    assert match is not None
    what, path = match["what"], match["path"] or "$"
    if unknown := _UNKNOWN_FIELD.match(what):
        return InvalidInput("unknown_field", "This field is not known here.", path=f"{path}.{unknown['field']}")
    if missing := _MISSING_FIELD.match(what):
        return InvalidInput("missing_field", "This field is required.", path=f"{path}.{missing['field']}")
    expected = _EXPECTED_TYPE.match(what)
    detail = f"Expected {expected['expected']}." if expected else "This value is not within its limits."
    return InvalidInput("invalid_field", detail, path=path)


def _too_large(max_bytes: int) -> InvalidInput:
    return InvalidInput("body_too_large", f"The body may have {max_bytes} bytes at most.")
