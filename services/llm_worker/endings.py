"""Why a task may fail through us and not through its provider."""

from shared.contracts.errors import EkidenError


class WorkerCrashed(EkidenError):
    """The task has taken too many workers down with it."""

    code = "worker_crashed"
    title = "The answer could not be made"
    detail = "Every worker that tried to answer was lost on the way."


class TimeLimit(EkidenError):
    """The hard limit: the attempt did not even end when it was told to."""

    code = "time_limit"
    retryable = True
    title = "The answer took too long"
    detail = "The task reached its time limit."


class InternalError(EkidenError):
    """A fault of ours. The log of the worker says where."""

    detail = "The answer broke off on our side."
