"""From errors to answers: the one place that knows the HTTP status of each.

Every error is application/problem+json (RFC 9457) with a stable `code`. Nothing that an exception says gets out.
"""

from typing import Any, Final

import falcon
import msgspec
import structlog

from services.api.urls import task_urls
from shared.contracts.errors import (
    EkidenError,
    InvalidInput,
    NotFound,
    Problem,
    SessionBusy,
    StoreUnavailable,
    problem_of,
    problem_type,
)

#: Seconds a client should wait before it asks again when the store is away: most outages are restarts.
STORE_RETRY_AFTER_SECONDS: Final = 2
#: And when another request of the same session is just being accepted.
BUSY_RETRY_AFTER_SECONDS: Final = 1

_INPUT_STATUS: Final = {
    "malformed_json": 400,
    "malformed_body": 400,
    "request_timeout": 408,
    "empty_body": 400,
    "invalid_header": 400,
    "body_too_large": 413,
    "unsupported_media_type": 415,
}

#: Falcon's own errors that a client can provoke, by status. Any other is told as `http_error`.
_HTTP_CODES: Final = {
    400: ("bad_request", "The request is not valid HTTP for this address"),
    404: ("not_found", "There is nothing at this address"),
    405: ("method_not_allowed", "This address does not take this method"),
    413: ("body_too_large", "The body is too large"),
    415: ("unsupported_media_type", "The body has the wrong media type"),
}

_log = structlog.get_logger()


def add_error_handlers(app: falcon.App) -> None:  # type: ignore[type-arg]
    """Make `app` answer every error as a problem. The last one added is the first that Falcon tries."""
    app.add_error_handler(Exception, _on_bug)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(EkidenError, _on_ekiden_error)


def _on_ekiden_error(req: falcon.Request, resp: falcon.Response, error: EkidenError, params: dict[str, Any]) -> None:
    problem = problem_of(error)
    match error:
        case InvalidInput(code=code, path=path, detail=detail):
            status = _INPUT_STATUS.get(code, 422)
            if path is not None:
                problem = msgspec.structs.replace(problem, errors=[{"path": path, "message": detail}])
        case NotFound():
            status = 404
        case SessionBusy(task_id=None):
            status = 409
            resp.set_header("Retry-After", str(BUSY_RETRY_AFTER_SECONDS))
        case SessionBusy(task_id=str(task_id)):
            status = 409
            problem = msgspec.structs.replace(problem, task={"task_id": task_id, "urls": task_urls(task_id)})
        case StoreUnavailable():
            status = 503
            resp.set_header("Retry-After", str(STORE_RETRY_AFTER_SECONDS))
            _log.warning("store_unavailable", path=req.uri_template, exc_info=error.__cause__)
        case _:
            _on_bug(req, resp, error, params)
            return
    _answer(resp, status, problem)


def _on_http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, params: dict[str, Any]) -> None:
    code, title = _HTTP_CODES.get(error.status_code, ("http_error", "The request was refused"))
    for name, value in dict(error.headers or {}).items():
        resp.set_header(name, value)
    _answer(resp, error.status_code, Problem(type=problem_type(code), title=title, code=code))


def _on_bug(req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, Any]) -> None:
    _log.error("request_failed", path=req.uri_template, method=req.method, exc_info=error)
    _answer(resp, 500, problem_of(EkidenError()))


def _answer(resp: falcon.Response, status: int, problem: Problem) -> None:
    resp.status = falcon.code_to_http_status(status)
    resp.content_type = "application/problem+json"
    resp.data = msgspec.json.encode(msgspec.structs.replace(problem, status=status))
    resp.text = None
    resp.set_header("Cache-Control", "no-store")
