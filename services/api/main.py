"""Runs the API on gunicorn: one process, threads, since a request only waits for the store. Scale by replicas."""

from typing import Any

import falcon
import structlog
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from services.api.app import create_app
from services.api.server_worker import ProblemWorker
from services.api.settings import Settings
from shared.runtime.health import serve_ops

#: Seconds an idle connection is kept: longer than the edge's 60 s, so that the edge is the one to close it.
KEEPALIVE_SECONDS = 75

_log = structlog.get_logger()


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


def run(settings: Settings) -> None:
    """Serve until SIGTERM."""
    ApiServer(settings).run()
