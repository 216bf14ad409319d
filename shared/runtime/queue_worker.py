"""Dramatiq's worker as Ekiden's processes run it: prompt, with one process-wide way to start, drain and end."""

import os
import signal
import sys
import threading
from typing import Any, Final, Protocol

import dramatiq.worker
from dramatiq import Middleware, Worker

from shared.runtime.broker import EkidenBroker, wake_client
from shared.runtime.store import connect

#: Milliseconds an idle consumer waits for a wake token before it polls once all the same. Tokens bring the promptness;
#: the poll only catches what a lost token would leave waiting.
IDLE_POLL_MS: Final = 1000

#: Seconds until a consumer that lost Redis connects again, and until an ack that failed is sent again. Dramatiq's own
#: 3 s and 5 s would outlast most restarts of Redis.
RECONNECT_SECONDS: Final = 0.5


def consuming_broker(
    url: str, *, pool_size: int, timeout_seconds: float, queues: set[str], middleware: list[Middleware]
) -> EkidenBroker:
    """A broker for a process that takes jobs off `queues`. Nothing is sent yet. Raises ValueError on a bad URL."""
    return EkidenBroker(
        connect(url, pool_size=pool_size, timeout_seconds=timeout_seconds, retries=0),
        wake_client=wake_client(url, wait_seconds=IDLE_POLL_MS / 1000, consumers=max(2, len(queues) + 1)),
        middleware=middleware,
    )


class QueueWorker:
    """Takes jobs off `queues` and runs their actors, `threads` at a time. `prefetch` counts running jobs too."""

    def __init__(self, broker: EkidenBroker, *, queues: set[str], threads: int, prefetch: int) -> None:
        self._broker = broker
        dramatiq.worker.CONSUMER_RESTART_DELAY_SECS = RECONNECT_SECONDS
        dramatiq.worker.POST_PROCESS_MESSAGE_RETRY_DELAY_SECS = RECONNECT_SECONDS
        self._worker: Any = Worker(broker, queues=queues, worker_timeout=IDLE_POLL_MS, worker_threads=threads)
        self._worker.queue_prefetch = prefetch

    def start(self) -> None:
        """Begin to take jobs. The actors must have been declared, or their jobs go to the dead letters."""
        self._worker.start()

    def drain(self) -> None:
        """Take no further job; those that run go on."""
        self._broker.draining.set()

    def stop(self, *, timeout_seconds: float) -> None:
        """Give back what has not begun, and wait for what runs."""
        self._worker.stop(timeout=int(timeout_seconds * 1000))

    def fault(self) -> str | None:
        """A health check: None while every consumer lives."""
        if self._broker.draining.is_set():
            return None
        dead = [name for name, thread in self._worker.consumers.items() if not thread.is_alive()]
        return "dead" if dead else None


class Service(Protocol):
    """What a worker's process runs."""

    def start(self) -> None:
        """Return once it is ready."""

    def stop(self) -> None:
        """Return once all is written and given back."""


def run_until_told(service: Service) -> None:
    """Run a service until SIGTERM or SIGINT. Ends the process."""
    told_to_end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told_to_end.set())
    service.start()
    told_to_end.wait()
    service.stop()
    # All is written and given back. Python would take a second more to take large libraries apart.
    sys.stdout.flush()
    os._exit(0)
