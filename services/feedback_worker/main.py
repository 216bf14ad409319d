"""Wires the feedback_worker: consumers of its queues, probes, and a drain."""

import threading

import structlog

from services.feedback_worker.settings import Settings
from shared.runtime.event_loop import DeadLetters
from shared.runtime.health import serve_ops
from shared.runtime.queue_worker import QueueWorker, consuming_broker

_log = structlog.get_logger()


class FeedbackWorker:
    """One worker process, wired. `start`, then `stop`; both are called from the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        broker = consuming_broker(
            settings.broker_url or settings.store_url,
            pool_size=settings.redis_pool_size,
            timeout_seconds=settings.store_timeout_seconds,
            queues=settings.queues,
            middleware=[DeadLetters()],
        )
        for queue in sorted(settings.queues):
            broker.declare_queue(queue)
        self._worker = QueueWorker(
            broker,
            queues=settings.queues,
            threads=settings.feedback_threads,
            prefetch=settings.feedback_threads,
        )
        self._started = threading.Event()
        self._draining = threading.Event()

    def start(self) -> None:
        """Answer probes, then take jobs. Raises OSError where the ops port is taken."""
        serve_ops(
            self._settings.ops_host,
            self._settings.ops_port,
            live={"consumers": self._worker.fault},
            ready={
                "started": lambda: None if self._started.is_set() else "not_yet",
                "draining": lambda: "draining" if self._draining.is_set() else None,
            },
        )
        self._worker.start()
        self._started.set()
        _log.info("ready", queues=sorted(self._settings.queues), threads=self._settings.feedback_threads)

    def stop(self) -> None:
        """Take nothing new, let jobs end."""
        _log.info("draining")
        self._draining.set()
        self._worker.drain()
        self._worker.stop(timeout_seconds=self._settings.feedback_drain_seconds)
        _log.info("stopped")
