"""How a worker takes jobs off one of Dramatiq's queues: promptly, and without stranding any.

Deliberate:

1. An idle consumer waits for a token (BLPOP), where the stock one polls and sleeps up to a second: a job is picked
   up after 3 ms, not 400. A full consumer waits for its own acks, and must not take a token that could wake another.
2. The set of fetched ids is compared with what is really held: when a consumer starts, after a message that cannot be
   decoded, and every ten seconds. What a lost reply left behind goes back to the queue, what is undecodable to the
   dead letters. The stock broker strands both until the process dies.
3. Every error of Redis counts as a lost connection, which restarts the consumer. With the stock broker a READONLY or
   OOM reply takes another path.
4. A draining consumer only sends heartbeats: what is queued during a drain starts elsewhere.
"""

import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import redis
from dramatiq import Message, MessageProxy
from dramatiq.broker import Consumer
from dramatiq.errors import ConnectionClosed, DecodeError

if TYPE_CHECKING:
    from shared.runtime.broker import EkidenBroker

#: How often a consumer compares what Redis says it holds with what it holds.
RECLAIM_SECONDS: Final = 10.0

#: How often a draining consumer says that it lives.
_DRAIN_HEARTBEAT_SECONDS: Final = 0.1


class EkidenConsumer(Consumer):  # type: ignore[misc]
    """Takes the messages of one queue for one process. Used by one consumer thread; acks come from others."""

    def __init__(self, broker: "EkidenBroker", queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.prefetch = prefetch
        self.timeout_seconds = timeout / 1000
        self._fetched: list[bytes | None] = []
        self._held = broker.held.setdefault(queue_name, set())
        self._acked = threading.Event()
        self._reclaim_at = 0.0

    def __next__(self) -> MessageProxy | None:
        """The next message, or None after at most the idle time-out. Raises ConnectionClosed."""
        try:
            if self.broker.draining.is_set():
                self._drain()
                return None
            if not self._fetched and time.monotonic() >= self._reclaim_at:
                self._reclaim()
            if not self._fetched:
                self._fetch()
            return self._next_fetched()
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None

    def ack(self, message: MessageProxy) -> None:
        """The job is done. Raises ConnectionClosed; then it stays held, and may be acked again."""
        self._settle(self.broker.do_ack, message)

    def nack(self, message: MessageProxy) -> None:
        """The job goes to the dead letters. Raises ConnectionClosed; then it stays held."""
        self._settle(self.broker.do_nack, message)

    def requeue(self, messages: Iterable[MessageProxy]) -> None:
        """Jobs that were fetched and not begun go back. Raises ConnectionClosed."""
        names = [message.options["redis_message_id"] for message in messages]
        if names:
            try:
                self.broker.do_requeue(self.queue_name, *names)
            except redis.RedisError as error:
                raise ConnectionClosed(error) from None
            self._held.difference_update(names)

    def close(self) -> None:
        """Give back what was fetched and not yet handed out. The next consumer reclaims what this cannot."""
        try:
            self._fetched.clear()
            self._reclaim()
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None

    def _settle(self, settle: Any, message: MessageProxy) -> None:
        name = message.options["redis_message_id"]
        try:
            settle(self.queue_name, name)
        except redis.RedisError as error:
            raise ConnectionClosed(error) from None
        self._held.discard(name)
        self._acked.set()

    def _fetch(self) -> None:
        free = self.prefetch - len(self._held)
        if free <= 0:
            self._wait_for_ack()
            return
        self._fetched = self.broker.do_fetch(self.queue_name, free)
        if self._fetched or not self._wait_for_token():
            return
        if self.broker.draining.is_set():
            self._pass_token_on()
        else:
            self._fetched = self.broker.do_fetch(self.queue_name, free)

    def _drain(self) -> None:
        if self._fetched:
            self._fetched.clear()
            self._reclaim()
        self.broker.do_heartbeat(self.queue_name)
        time.sleep(min(self.timeout_seconds, _DRAIN_HEARTBEAT_SECONDS))

    def _wait_for_ack(self) -> None:
        self._acked.clear()
        if len(self._held) >= self.prefetch:
            self._acked.wait(self.timeout_seconds)
        self.broker.do_heartbeat(self.queue_name)

    def _wait_for_token(self) -> bool:
        wake_client: Any = self.broker.wake_client
        key = wake_key(self.broker.namespace, self.queue_name)
        return wake_client.blpop([key], timeout=self.timeout_seconds) is not None

    def _pass_token_on(self) -> None:
        wake_client: Any = self.broker.wake_client
        wake_client.rpush(wake_key(self.broker.namespace, self.queue_name), "1")

    def _next_fetched(self) -> MessageProxy | None:
        while self._fetched:
            data = self._fetched.pop(0)
            if data is None:
                continue
            message = _decode(data)
            if message is None:
                self._reclaim_at = 0.0
                continue
            self._held.add(message.options["redis_message_id"])
            return MessageProxy(message)
        return None

    def _reclaim(self) -> None:
        """Settle every id that Redis counts as ours and that nobody here holds."""
        client: Any = self.broker.client
        fetched_by_us = f"{self.broker.namespace}:__acks__.{self.broker.broker_id}.{self.queue_name}"
        for raw_name in client.smembers(fetched_by_us):
            name = raw_name.decode()
            if name in self._held:
                continue
            data = client.hget(f"{self.broker.namespace}:{self.queue_name}.msgs", name)
            if data is None:
                self.broker.do_ack(self.queue_name, name)
            elif _decode(data) is None:
                self.broker.do_nack(self.queue_name, name)
            else:
                self.broker.do_requeue(self.queue_name, name)
        self._reclaim_at = time.monotonic() + RECLAIM_SECONDS


def wake_key(namespace: str, queue_name: str) -> str:
    """The list of tokens that wake idle consumers of a queue."""
    return f"{namespace}:wake:{queue_name}"


def _decode(data: bytes) -> Message[Any] | None:
    try:
        message = Message.decode(data)
    except DecodeError:
        return None
    name = message.options.get("redis_message_id") if isinstance(message.options, dict) else None
    return message if isinstance(name, str) else None
