"""Log lines: one JSON object each, on stdout, with a constant `event` and ids instead of objects.

Deliberate:

1. No text of an exception is logged, since it may hold host names, paths, keys or a user's words. An error shows
   as its type and the module, function and line it came from.
2. Lines of other libraries keep their template as `event` and lose their arguments, for the same reason.
"""

import logging
import sys
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(service: str, level: str) -> None:
    """Send all log lines of this process, ours and the libraries', to stdout as JSON."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _error_as_type,
        _service(service),
    ]
    renderer = structlog.processors.JSONRenderer(ensure_ascii=False)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_template_only, structlog.stdlib.add_logger_name, *shared],
            pass_foreign_args=True,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(logging.getLevelNamesMapping()[level], logging.WARNING))


def error_place(error: BaseException) -> str:
    """Where an exception was raised, as `module.function:line` of its innermost frame."""
    trace = error.__traceback__
    if trace is None:
        return "unknown"
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    return f"{frame.f_globals.get('__name__', '?')}.{frame.f_code.co_name}:{trace.tb_lineno}"


def error_name(error: BaseException) -> str:
    """The full name of an exception's type, such as `redis.exceptions.TimeoutError`."""
    return f"{type(error).__module__}.{type(error).__qualname__}"


def _error_as_type(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    info = event_dict.pop("exc_info", None)
    error: Any = None
    if isinstance(info, BaseException):
        error = info
    elif isinstance(info, tuple):
        error = info[1]
    elif info:
        error = sys.exc_info()[1]
    if error is not None:
        event_dict["error"] = error_name(error)
        event_dict["where"] = error_place(error)
    event_dict.pop("stack_info", None)
    return event_dict


def _template_only(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
    arguments = event_dict.pop("positional_args", ())
    record: logging.LogRecord | None = event_dict.get("_record")
    if record is not None:
        event_dict["event"] = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        errors = [argument for argument in arguments or () if isinstance(argument, BaseException)]
        event_dict["exc_info"] = record.exc_info or (errors[0] if errors else None)
        record.exc_info = record.exc_text = record.stack_info = None
    return event_dict


def _service(name: str) -> Any:
    def add(_logger: WrappedLogger, _method: str, event_dict: EventDict) -> EventDict:
        event_dict["service"] = name
        return event_dict

    return add
