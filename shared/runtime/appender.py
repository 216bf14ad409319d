"""The one place of a process through which entries reach the logs.

Each task has a `LogWriter`: it gathers what the model says while a batch is under way, so the first token leaves at
once and what waits together leaves together. The batches of all tasks share one pipelined connection, and none waits
for another's reply. A batch once frozen stays the same bytes; it is sent again until the ledger says whether it stands.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from shared.contracts.errors import LogLost
from shared.contracts.events import Delta, Event, Reasoning, event_type
from shared.contracts.frames import encode_frame
from shared.runtime.ledger_async import AsyncLedger, Batch, Claim
from shared.runtime.metrics import APPENDS_REFUSED
from shared.runtime.store import is_transient

#: Text that one task may have waiting while the store is away. After that the model is read no further.
MAX_WAITING_BYTES: Final = 256 * 1024

#: The longest pause between two tries to reach the store.
_MAX_BACKOFF_SECONDS: Final = 1.0

_log = structlog.get_logger()


class Appender:
    """Sends frozen batches, each at once: the client's one connection makes one write of what leaves in one turn."""

    def __init__(self, ledger: AsyncLedger) -> None:
        self._ledger = ledger

    async def append(self, batch: Batch) -> None:
        """Return once the batch stands in its log. Raises Fenced or StoreWentBack; an outage is waited out."""
        failures = 0
        while (fault := await self._try(batch)) is not None:
            if isinstance(fault, LogLost) or not is_transient(fault):
                APPENDS_REFUSED.labels(reason=getattr(fault, "code", "error")).inc()
                raise fault
            if not failures:
                _log.warning("append_delayed", task_id=batch.task_id, exc_info=fault)
            failures += 1
            pause = min(_MAX_BACKOFF_SECONDS, 0.02 * 2 ** min(failures, 10))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))

    async def _try(self, batch: Batch) -> Exception | None:
        """None where the batch stands, else why it does not, or why that is not known."""
        try:
            [fault] = await self._ledger.append([batch])
        except Exception as error:  # noqa: BLE001 - told apart by the caller
            return error
        return fault


class LogWriter:
    """Writes the events of one attempt, in order. `on_lost` is called once, when it can write no more."""

    def __init__(self, appender: Appender, claim: Claim, *, on_lost: Callable[[], None]) -> None:
        self._appender = appender
        self._claim = claim
        self._on_lost = on_lost
        self._follows = claim.last_id
        self._next_seq = 0
        self._waiting: list[Event] = []
        self._waiting_bytes = 0
        self._flushed = asyncio.Event()
        self._flushed.set()
        self._flusher: asyncio.Task[None] | None = None
        self.lost: Exception | None = None

    def write(self, event: Event) -> None:
        """Take the next event. It leaves at once, or with the next batch if one is under way."""
        self._waiting.append(event)
        self._waiting_bytes += len(event.content.encode()) if isinstance(event, Delta | Reasoning) else 0
        self._flushed.clear()
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush())

    async def room(self) -> None:
        """Wait while too much text waits for the store. Raises LogLost once nothing can be written."""
        if self._waiting_bytes > MAX_WAITING_BYTES:
            await self._flushed.wait()
        if self.lost is not None:
            raise self.lost

    async def flush(self) -> None:
        """Return once all that was written stands in the log. Raises LogLost."""
        await self._flushed.wait()
        if self.lost is not None:
            raise self.lost

    async def _flush(self) -> None:
        try:
            while self._waiting and self.lost is None:
                batch = self._freeze()
                await self._appender.append(batch)
                self._follows = batch.last_id
        except Exception as error:  # noqa: BLE001 - handed to whoever writes next
            self.lost = error
            self._on_lost()
        finally:
            self._flusher = None
            self._flushed.set()

    def _freeze(self) -> Batch:
        events, self._waiting, self._waiting_bytes = _merged(self._waiting), [], 0
        first = self._next_seq
        self._next_seq += len(events)
        entries = tuple(
            (f"{self._claim.epoch}-{first + place}", event_type(event), encode_frame(event))
            for place, event in enumerate(events)
        )
        return Batch(task_id=self._claim.task_id, epoch=self._claim.epoch, follows=self._follows, entries=entries)


def _merged(events: list[Event]) -> list[Event]:
    """The same events with neighbouring pieces of text made one."""
    merged: list[Event] = []
    run: list[str] = []
    for place, event in enumerate(events):
        if not isinstance(event, Delta | Reasoning):
            merged.append(event)
            continue
        run.append(event.content)
        following = events[place + 1] if place + 1 < len(events) else None
        if type(following) is not type(event):
            merged.append(msgspec.structs.replace(event, content="".join(run)))
            run = []
    return merged
