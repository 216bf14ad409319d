"""Looks every second for tasks that need a job: a worker was lost, a job was, or a task was handed over.

A thread of its own in every worker, so that a blocked event loop does not stop it. Reads `pending`, writes jobs.
"""

import random
import threading
import time

import redis
import structlog

from shared.contracts.errors import StoreUnavailable
from shared.runtime.broker import EkidenBroker
from shared.runtime.ledger import Ledger
from shared.runtime.metrics import TAKEOVERS
from shared.runtime.queue import as_message
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import is_transient

#: Seconds between two sweeps of one worker. With the lease it makes up the time until a lost task goes on.
SWEEP_SECONDS = 1.0

_log = structlog.get_logger()


class Sweeper:
    """`start` it once; `stop` it before the process ends."""

    def __init__(self, ledger: Ledger, broker: EkidenBroker, settings: LedgerSettings) -> None:
        self._ledger = ledger
        self._broker = broker
        #: After an outage of the store, workers that live must have renewed before a lease counts as run out. A start
        #: counts as an outage: nothing is known about the time before it.
        self._patience_seconds = settings.lease_seconds / 4 + SWEEP_SECONDS
        self._take_over_from = time.monotonic() + self._patience_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin to sweep."""
        self._thread.start()

    def stop(self) -> None:
        """End after the sweep that runs."""
        self._stopping.set()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def sweep_once(self, *, take_over: bool = True) -> int:
        """One sweep; returns how many jobs were put into a queue. Raises StoreUnavailable."""
        added = 0
        for due in self._ledger.sweep(take_over=take_over):
            try:
                new = self._broker.put(as_message(due.job), at_head=due.takeover)
            except redis.RedisError as error:
                if is_transient(error):
                    raise StoreUnavailable from error
                raise
            added += new
            if due.takeover:
                TAKEOVERS.inc()
                _log.info("task_taken_over", task_id=due.job.task_id, job=due.job.number)
            elif new:
                _log.warning("job_was_lost", task_id=due.job.task_id, job=due.job.number)
        return added

    def _run(self) -> None:
        while not self._stopping.wait(SWEEP_SECONDS * random.uniform(0.8, 1.2)):
            try:
                self.sweep_once(take_over=time.monotonic() >= self._take_over_from)
            except StoreUnavailable as error:
                self._take_over_from = time.monotonic() + self._patience_seconds
                _log.warning("sweep_failed", exc_info=error.__cause__)
