"""Dramatiq's Redis broker, made prompt and lossless: enqueuing here, consuming in `consumer.py`.

It keeps Dramatiq's own Redis layout, so that its tools and its `dispatch` script see what they expect.

Deliberate:

1. No delay queues: later tries are the ledger's. So there is no delay consumer that could die with messages in it.
2. Jobs have names of ours, `<task_id>:<number>`: enqueued twice under one name they are one job.
3. Maintenance by time, not by chance: every two seconds for each queue that a process serves, so a dead worker's
   jobs come back in seconds.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import redis
from dramatiq import Message, Middleware
from dramatiq.brokers.redis import RedisBroker

from shared.runtime.consumer import EkidenConsumer, wake_key
from shared.runtime.scripts import ENQUEUE

#: A worker that has not been heard of for so long is dead, and the jobs it had fetched go back to the queue. Consumers
#: send a heartbeat at least every second, so five may be missed. A job that was fetched and not yet claimed has no
#: lease to run out, so this and the maintenance must stay within the 12 s promised for a killed worker's tasks; a job
#: that comes back although its worker lives is harmless, since a claim is exclusive.
HEARTBEAT_TIMEOUT_MS: Final = 6_000

#: How often one process looks for dead workers' jobs.
MAINTENANCE_SECONDS: Final = 2.0

#: Wake tokens kept. More than there are idle consumers is waste; fewer would leave some to wait for their poll.
WAKE_TOKENS: Final = 64

#: Seconds that a wake-up may take longer than asked before its connection counts as dead.
_WAKE_GRACE_SECONDS: Final = 5.0


class EkidenBroker(RedisBroker):  # type: ignore[misc]
    """The broker of every Ekiden process. `client` must not retry on time-outs; `wake_client` waits in BLPOP."""

    def __init__(
        self,
        client: redis.Redis,
        *,
        middleware: list[Middleware] | None = None,
        wake_client: redis.Redis | None = None,
        namespace: str = "dramatiq",
    ) -> None:
        super().__init__(
            client=client,
            middleware=middleware or [],
            namespace=namespace,
            heartbeat_timeout=HEARTBEAT_TIMEOUT_MS,
        )
        self.wake_client = wake_client
        self.draining = threading.Event()
        #: By queue, the names of jobs fetched and not yet settled. Outlives a consumer: its thread may be restarted.
        self.held: dict[str, set[str]] = {}
        self._maintained_at: dict[str, float] = {}
        self._at_hand = threading.local()

    @property
    def consumer_class(self) -> type[EkidenConsumer]:
        """What Dramatiq's worker consumes with."""
        return EkidenConsumer

    def declare_queue(self, queue_name: str) -> None:
        """Declare a queue, without the delay queue that the stock broker adds."""
        if queue_name not in self.queues:
            self.emit_before("declare_queue", queue_name)
            self.queues.add(queue_name)
            self.emit_after("declare_queue", queue_name)

    def enqueue(self, message: Message[Any], *, delay: int | None = None) -> Message[Any]:
        """Put a message at the tail of its queue, under its message id. Raises redis errors."""
        if delay is not None:
            raise ValueError("Ekiden's queues have no delays: later tries are the ledger's")
        self.put(message, at_head=False)
        return message

    def put(self, message: Message[Any], *, at_head: bool) -> bool:
        """Make sure that a job is in its queue. False where one of its name waits or runs already.

        May be repeated after a lost reply. Raises redis errors.
        """
        named = message.copy(options={"redis_message_id": message.message_id})
        queue = f"{self.namespace}:{message.queue_name}"
        self.emit_before("enqueue", named, None)
        added = ENQUEUE.call(
            self.client,
            [queue, f"{queue}.msgs", wake_key(self.namespace, message.queue_name)],
            [message.message_id, named.encode(), "head" if at_head else "tail", WAKE_TOKENS],
        )
        self.emit_after("enqueue", named, None)
        return bool(added)

    def _dispatch(self, command: str) -> Callable[..., Any]:
        dispatch: Callable[..., Any] = super()._dispatch(command)

        def on_queue(queue_name: str, *args: Any) -> Any:
            self._at_hand.queue = queue_name
            return dispatch(queue_name, *args)

        return on_queue

    def _should_do_maintenance(self, command: str) -> int:
        """Dramatiq asks this for each command; `dispatch` then looks after the command's queue."""
        queue, now = self._at_hand.queue, time.monotonic()
        if command not in ("fetch", "heartbeat") or now - self._maintained_at.get(queue, 0.0) < MAINTENANCE_SECONDS:
            return 0
        self._maintained_at[queue] = now
        return 1


def wake_client(url: str, *, wait_seconds: float, consumers: int) -> redis.Redis:
    """A client for BLPOP: one connection a consumer, and patient enough for the wait."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=consumers,
        timeout=wait_seconds,
        socket_timeout=wait_seconds + _WAKE_GRACE_SECONDS,
        socket_connect_timeout=wait_seconds,
    )
    return redis.Redis(connection_pool=pool)
