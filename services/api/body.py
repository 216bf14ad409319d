"""How a request's body becomes one of our types: checked whole, before anything is done, and its first fault named."""

import contextlib
import re
import socket
from typing import Final, TypeVar

import falcon
import msgspec
from gunicorn.http.errors import ParseException

from shared.contracts.errors import InvalidInput

#: What a JSON body may be called. Anything else is 415.
_JSON: Final = "application/json"

_WRONG = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?\Z", re.DOTALL)
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<field>.*)`\Z", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<field>.*)`\Z", re.DOTALL)
_EXPECTED_TYPE = re.compile(r"Expected `(?P<expected>[^`]+)`")

T = TypeVar("T")


def read_body(req: falcon.Request, body_type: type[T], *, max_bytes: int) -> tuple[T, bytes]:
    """The request's JSON body as `body_type`, and its bytes. Raises InvalidInput."""
    content_type = (req.content_type or "").partition(";")[0].strip().lower()
    if content_type != _JSON:
        raise InvalidInput("unsupported_media_type", "The body must be JSON: Content-Type: application/json.")
    if (req.content_length or 0) > max_bytes:
        raise _too_large(max_bytes)
    raw = _read(req, max_bytes + 1)
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


def _read(req: falcon.Request, max_bytes: int) -> bytes:
    try:
        raw: bytes = req.stream.read(max_bytes)
    except ParseException:
        raise InvalidInput("malformed_body", "The body breaks the rules of its transfer encoding.") from None
    except OSError:
        # What is still to come is not waited for a second time, when the server clears the connection for the next.
        with contextlib.suppress(OSError):
            req.env["gunicorn.socket"].shutdown(socket.SHUT_RD)
        raise InvalidInput("request_timeout", "The body did not come.") from None
    return raw


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
