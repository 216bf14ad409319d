"""From the store's channels to this gateway's subscribers: one connection for all, a set of subscribers a channel.

The relay never waits for a subscriber. After every acknowledgement of a subscription, and after silence, it tells
subscribers to look at the log: publications are a doorbell, the log is the truth.

Deliberate: a task that stays silent is looked at after 1.5 s, then after twice that, up to 15 s, so that ten thousand
idle streams do not read the store without end. A publication that was lost is found at the first look.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from services.sse_gateway.settings import Settings
from services.sse_gateway.subscriber import Subscriber
from shared.contracts import keys
from shared.contracts.entries import from_copy
from shared.runtime.metrics import SUBSCRIBERS
from shared.runtime.pubsub import Subscriptions

#: Seconds between two looks at the clock for all subscribers. Pings and limits are late by no more than this.
TICK_SECONDS: Final = 0.25

#: The longest time between two looks at the log of a silent task, in seconds.
MAX_LOOK_SECONDS: Final = 15.0

_log = structlog.get_logger()


@dataclass(slots=True, kw_only=True)
class Stream:
    """A subscriber with its times, in seconds of the event loop's clock."""

    subscriber: Subscriber
    ping_at: float
    ends_at: float
    look_at: float
    look_seconds: float
    #: Cuts the connection without ceremony.
    abort: Callable[[], None]
    #: Since when a write has not been taken; None while none is under way.
    writing_since: float | None = None


class Relay:
    """Attach a subscriber to its task for as long as its connection is open. `run` it as a task."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._streams: dict[bytes, list[Stream]] = {}
        self._acknowledged: set[bytes] = set()
        self._subscriptions = Subscriptions(
            settings.store_url, sharded=True, on_message=self._publish, on_subscribed=self._subscribed
        )
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False

    @property
    def count(self) -> int:
        """How many streams are open."""
        return sum(len(streams) for streams in self._streams.values())

    @property
    def connected(self) -> bool:
        """Whether publications reach this gateway now."""
        return self._subscriptions.connected

    def attach(self, task_id: str, subscriber: Subscriber, *, abort: Callable[[], None]) -> Stream:
        """Let a subscriber have what is published for its task. It reads the log once that is certain to come."""
        now = asyncio.get_running_loop().time()
        stream = Stream(
            subscriber=subscriber,
            ping_at=now + self._settings.ping_seconds,
            ends_at=now + self._settings.max_connection_seconds * random.uniform(0.8, 1.0),
            look_at=now + self._settings.look_seconds,
            look_seconds=self._settings.look_seconds,
            abort=abort,
        )
        channel = keys.channel(task_id).encode()
        if channel in self._streams:
            self._streams[channel].append(stream)
            if channel in self._acknowledged:
                subscriber.must_read()
        else:
            self._streams[channel] = [stream]
            self._subscriptions.subscribe(channel)
        self._empty.clear()
        SUBSCRIBERS.inc()
        return stream

    def detach(self, task_id: str, stream: Stream) -> None:
        """The connection is over."""
        channel = keys.channel(task_id).encode()
        streams = self._streams[channel]
        streams.remove(stream)
        if not streams:
            del self._streams[channel]
            self._acknowledged.discard(channel)
            self._subscriptions.unsubscribe(channel)
        if not self._streams:
            self._empty.set()
        SUBSCRIBERS.dec()

    async def run(self) -> None:
        """Carry publications and keep the time, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._subscriptions.run())
            group.create_task(self._tick())

    async def drain(self) -> None:
        """End all streams, spread over the drain time, and return when they are gone or the time is over."""
        self.draining = True
        loop = asyncio.get_running_loop()
        window = self._settings.gateway_drain_seconds
        for streams in self._streams.values():
            for stream in streams:
                loop.call_later(random.uniform(0, window * 0.8), stream.subscriber.end, "drain")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(window):
                await self._empty.wait()

    def _publish(self, channel: bytes, payload: bytes) -> None:
        try:
            entry = from_copy(payload)
        except ValueError:
            _log.error("copy_unreadable")
            return
        for stream in self._streams.get(channel, ()):
            stream.subscriber.offer(entry)

    def _subscribed(self, channel: bytes) -> None:
        self._acknowledged.add(channel)
        for stream in self._streams.get(channel, ()):
            stream.subscriber.must_read()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = loop.time()
            for streams in self._streams.values():
                for stream in streams:
                    self._look_at_clock(stream, now)

    def _look_at_clock(self, stream: Stream, now: float) -> None:
        subscriber = stream.subscriber
        if stream.writing_since is not None:
            if now - stream.writing_since > self._settings.stalled_seconds:
                stream.abort()
            return
        if subscriber.heard:
            subscriber.heard = False
            stream.look_seconds = self._settings.look_seconds
            stream.look_at = now + stream.look_seconds
        elif now >= stream.look_at:
            stream.look_seconds = min(stream.look_seconds * 2, MAX_LOOK_SECONDS)
            stream.look_at = now + stream.look_seconds
            subscriber.must_read()
        if now >= stream.ping_at:
            stream.ping_at = now + self._settings.ping_seconds
            subscriber.ping()
        if now >= stream.ends_at:
            subscriber.end("max_age")
