"""Wires the llm_worker and runs it until SIGTERM or SIGINT: drain, hand over, end."""

import asyncio
import contextlib
import threading
import time
from concurrent.futures import Future
from typing import Any

import structlog

from services.llm_worker.actors import register_actors
from services.llm_worker.generations import Generations
from services.llm_worker.settings import Settings
from shared.contracts import keys
from shared.contracts.errors import StoreUnavailable
from shared.providers.litellm_chat import LitellmChat
from shared.runtime.appender import Appender
from shared.runtime.event_loop import DeadLetters, EventLoop, UvloopThread
from shared.runtime.health import serve_ops
from shared.runtime.ledger import Ledger
from shared.runtime.ledger_async import AsyncLedger
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.pubsub import Subscriptions
from shared.runtime.queue_worker import QueueWorker, consuming_broker
from shared.runtime.store import connect
from shared.runtime.sweeper import Sweeper

#: At least so many seconds until a command that the store does not answer counts as lost: here nobody waits, and a loop
#: busy with many answers may itself be what is late.
MIN_STORE_TIMEOUT_SECONDS = 5.0

#: Seconds that a hand-over may take: a flush, a renewal, and the provider's connection.
HAND_OVER_SECONDS = 5.0

#: Seconds that the loop's background work gets to end. All that matters is written by then.
CLOSE_SECONDS = 1.0

_log = structlog.get_logger()


class LlmWorker:
    """One worker process, wired. `start`, then `stop`; both are called from the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop = UvloopThread()
        store = connect(
            settings.store_url, pool_size=settings.redis_pool_size, timeout_seconds=self._store_timeout_seconds
        )
        self._broker = consuming_broker(
            settings.broker_url or settings.store_url,
            pool_size=settings.redis_pool_size,
            timeout_seconds=self._store_timeout_seconds,
            queues=settings.queues,
            middleware=[EventLoop(self._loop), DeadLetters()],
        )
        self._sweeper = Sweeper(Ledger(store, settings), self._broker, settings)
        self._worker: QueueWorker | None = None
        self._generations: Generations | None = None
        self._background: list[asyncio.Task[None]] = []
        self._warm = threading.Event()
        self._draining = threading.Event()

    @property
    def _store_timeout_seconds(self) -> float:
        return max(self._settings.store_timeout_seconds, MIN_STORE_TIMEOUT_SECONDS)

    def start(self) -> None:
        """Answer probes, warm the provider up, then take jobs. Raises OSError where the ops port is taken."""
        serve_ops(
            self._settings.ops_host,
            self._settings.ops_port,
            live={
                "sweeper": self._sweeper_fault,
                "leases": self._lease_fault,
                "consumers": self._consumer_fault,
            },
            ready={"warm_up": self._warm_fault, "draining": self._drain_fault},
        )
        self._loop.start(timeout=5.0)
        self._generations = self._on_loop(self._wire())
        register_actors(self._broker, self._generations)
        self._worker = QueueWorker(
            self._broker,
            queues=self._settings.queues,
            threads=self._settings.worker_threads,
            prefetch=self._settings.worker_prefetch or self._settings.worker_threads,
        )
        self._sweeper.start()
        self._worker.start()
        self._warm.set()
        _log.info("ready", queues=sorted(self._settings.queues), threads=self._settings.worker_threads)

    def stop(self) -> None:
        """Take nothing new, let answers end, hand over what is left, end."""
        _log.info("draining", tasks=self._count())
        assert self._worker is not None
        self._draining.set()
        self._worker.drain()
        self._sweeper.stop()
        deadline = time.monotonic() + self._settings.worker_drain_seconds
        while self._count() and time.monotonic() < deadline:
            time.sleep(0.02)
        left = self._count()
        self._on_loop(self._hand_over())
        if left:
            _log.info("handed_over", tasks=left)
            self._queue_what_was_handed_over()
        self._worker.stop(timeout_seconds=HAND_OVER_SECONDS)
        self._on_loop(self._close())
        self._loop.stop()
        _log.info("stopped")

    def _queue_what_was_handed_over(self) -> None:
        """Make the jobs at once that the next sweep of another worker would make within a second."""
        try:
            self._sweeper.sweep_once(take_over=True)
        except StoreUnavailable as error:
            _log.warning("hand_over_left_to_the_sweep", exc_info=error.__cause__)

    async def _wire(self) -> Generations:
        settings = self._settings
        store = PipelinedClient(settings.store_url, timeout_seconds=self._store_timeout_seconds)
        ledger = AsyncLedger(store, settings, worker=settings.worker_name)
        chat = LitellmChat(demo_url=settings.demo_url)
        generations = Generations(ledger=ledger, appender=Appender(ledger), store=store, chat=chat, settings=settings)
        cancels = Subscriptions(
            settings.store_url,
            sharded=False,
            on_message=lambda _channel, task_id: generations.cancel(task_id.decode()),
            on_subscribed=lambda _channel: None,
        )
        cancels.subscribe(keys.CANCEL_CHANNEL.encode())
        await chat.warm_up()
        self._background = [asyncio.create_task(work) for work in (cancels.run(), generations.keep_leases())]
        return generations

    async def _hand_over(self) -> None:
        assert self._generations is not None
        self._generations.hand_over()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._generations.idle.wait()

    async def _close(self) -> None:
        for task in self._background:
            task.cancel()
        await asyncio.wait(self._background, timeout=CLOSE_SECONDS)

    def _on_loop(self, coroutine: Any) -> Any:
        future: Future[Any] = asyncio.run_coroutine_threadsafe(coroutine, self._loop.loop)
        return future.result()

    def _count(self) -> int:
        return self._generations.count if self._generations is not None else 0

    def _warm_fault(self) -> str | None:
        return None if self._warm.is_set() else "not_yet"

    def _drain_fault(self) -> str | None:
        return "draining" if self._draining.is_set() else None

    def _sweeper_fault(self) -> str | None:
        return "dead" if self._warm.is_set() and not self._draining.is_set() and not self._sweeper.alive() else None

    def _lease_fault(self) -> str | None:
        if any(task.done() for task in self._background):
            return "dead"
        return None

    def _consumer_fault(self) -> str | None:
        return self._worker.fault() if self._worker is not None else None
