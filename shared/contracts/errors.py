"""The one root of errors, and what an error looks like to a client.

EkidenError                      code, retryable
├── InvalidInput                 the client sent what cannot be served; path says where
├── NotFound                     unknown, or somebody else's
├── SessionBusy                  an answer of this session still runs
├── StoreUnavailable             Redis is away, full, read-only or too slow
├── LogLost                      the writer lost its place in the log
│   ├── Fenced                   another attempt or a cancel took the task over
│   └── StoreWentBack            the store lost its newest entries: claim again
└── ProviderError                the model could not answer; see shared/providers
"""

from typing import Any, ClassVar

import msgspec


class EkidenError(Exception):
    """The root. `code` is stable and part of the API; `retryable` says whether trying later can help."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False
    title: ClassVar[str] = "Something went wrong on our side"


class InvalidInput(EkidenError):
    """What the client sent cannot be served: `code` says what is wrong, `path` where (a JSONPath)."""

    title = "The request cannot be served as it is"

    def __init__(self, code: str, detail: str, *, path: str | None = None) -> None:
        super().__init__(detail)
        self.code = code  # type: ignore[misc]  # one class, many codes
        self.detail = detail
        self.path = path


class NotFound(EkidenError):
    """Unknown, or somebody else's: the two are told apart by nobody."""

    title = "There is no such thing"

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.code = f"{what}_not_found"  # type: ignore[misc]  # task_not_found, session_not_found


class SessionBusy(EkidenError):
    """A session answers one message at a time; `task_id` is the answer that still runs.

    None while another request has put its message into the session and has not made its task yet.
    """

    code = "session_busy"
    retryable = True
    title = "This session is still answering an earlier message"

    def __init__(self, task_id: str | None) -> None:
        super().__init__(task_id)
        self.task_id = task_id


class StoreUnavailable(EkidenError):
    """Redis did not take or give what was asked. Nothing was accepted; the same request may be sent again."""

    code = "store_unavailable"
    retryable = True
    title = "The store is not available right now"


class LogLost(EkidenError):
    """The writer of a log has lost its place and must stop writing."""


class Fenced(LogLost):
    """The task is no longer this writer's: cancelled, taken over by another attempt, or gone."""

    code = "fenced"


class StoreWentBack(LogLost):
    """The log ends earlier than this writer left it: the store was rolled back."""

    code = "store_went_back"
    retryable = True


class ProviderError(EkidenError):
    """The model could not answer. `retry_after_seconds` is the provider's own wish, where it named one."""

    title = "The model could not answer"
    detail: ClassVar[str] = "The model's provider answered with an error."

    def __init__(self, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(self.code)
        self.retry_after_seconds = retry_after_seconds


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem as RFC 9457 describes it: `application/problem+json`, and `problem` in a `failed` event."""

    type: str
    title: str
    code: str
    status: int | None = None
    detail: str | None = None
    retryable: bool | None = None
    retry_after_seconds: float | None = None
    errors: list[dict[str, str]] | None = None
    task: dict[str, Any] | None = None


def problem_type(code: str) -> str:
    """The `type` of a problem: a URN, since no page on the network describes it."""
    return f"urn:ekiden:problem:{code}"


def problem_of(error: EkidenError) -> Problem:
    """What a client may know about `error`. No text of a foreign exception gets in."""
    return Problem(
        type=problem_type(error.code),
        title=error.title,
        code=error.code,
        detail=getattr(error, "detail", None),
        retryable=error.retryable,
        retry_after_seconds=getattr(error, "retry_after_seconds", None),
    )
