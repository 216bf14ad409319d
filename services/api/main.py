"""Runs the API on gunicorn: one process, threads, since a request only waits for the store. Scale by replicas."""

import contextlib
import http
import socket
import struct
from typing import Any

import falcon
import msgspec
import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from services.api.app import create_app
from services.api.settings import Settings
from shared.contracts.errors import Problem, problem_type
from shared.runtime.health import serve_ops

#: Seconds an idle connection is kept: longer than the edge's 60 s, so that the edge is the one to close it.
KEEPALIVE_SECONDS = 75

#: Seconds that a client may leave a request half sent.
RECEIVE_SECONDS = 10

_log = structlog.get_logger()


class ProblemWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's worker, with two things changed.

    A client that sends half a request and stops holds a thread for so many seconds, not for ever. And what is not even
    HTTP is answered by a problem like any other, where gunicorn would send a page that repeats what it got.
    """

    def init_process(self) -> None:
        """Called by gunicorn in the worker process. Accepted sockets inherit the time limit of their listener."""
        limit = struct.pack("ll", RECEIVE_SECONDS, 0)
        for listener in self.sockets:
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        super().init_process()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Called by gunicorn for a request that never reached the app."""
        status = _status_of(exc)
        reason = http.HTTPStatus(status).phrase
        _log.warning("request_refused", status=status, exc_info=exc)
        problem = Problem(type=problem_type("bad_request"), title=reason, code="bad_request", status=status)
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            client.sendall(head.encode() + body)


class _JsonLogger(Logger):  # type: ignore[misc]
    """gunicorn's lines go the way of all others."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn once."""
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.access_log.handlers.clear()
        self.access_log.propagate = False


class ApiServer(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn: every option that is not its default."""
        settings = self._settings
        options = {
            "bind": f"{settings.http_host}:{settings.http_port}",
            "worker_class": ProblemWorker,
            "workers": 1,
            "threads": settings.http_threads,
            "keepalive": KEEPALIVE_SECONDS,
            "graceful_timeout": settings.http_drain_seconds,
            "logger_class": _JsonLogger,
            "control_socket_disable": True,
            "proc_name": "ekiden-api",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> falcon.App:  # type: ignore[type-arg]
        """Called by gunicorn in the worker process, before it takes requests."""
        app = create_app(self._settings)
        serve_ops(self._settings.ops_host, self._settings.ops_port, live={}, ready={})
        _log.info("ready", port=self._settings.http_port)
        return app


def _status_of(error: BaseException) -> int:
    match error:
        case LimitRequestLine():
            return 414
        case LimitRequestHeaders():
            return 431
        case ExpectationFailed():
            return 417
        case UnsupportedTransferCoding():
            return 501
        case ParseException():
            return 400
        case OSError():
            return 408
        case _:
            return 500


def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    ApiServer(settings).run()
