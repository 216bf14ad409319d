"""What the integration tests of the ledger share: a store, workers that a test moves by hand, and a look at the log."""

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import pytest
import redis
import structlog

from demo.embedded_store import EmbeddedStore
from demo.ports import free_block
from shared.contracts import keys
from shared.contracts.entries import LogEntry, from_stream
from shared.contracts.events import TERMINAL_TYPES, Completed, Created, Delta, Event, Timings, Usage, event_type
from shared.contracts.frames import decode_frame, encode_frame
from shared.contracts.ids import bucket_of, new_session_id, new_task_id
from shared.contracts.tasks import Task
from shared.runtime.ledger import Ledger
from shared.runtime.ledger_async import AsyncLedger, Batch, Claim
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import connect
from tests.patience import PATIENCE_SECONDS, POLL_SECONDS, wait_until


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A test that is a coroutine function runs on an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(pyfuncitem.obj).parameters}
    asyncio.run(pyfuncitem.obj(**arguments))
    return True


async def until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS, what: str = "") -> None:
    """`wait_until` for tests that run on an event loop."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"still not so after {seconds} s: {what or is_so}"
        await asyncio.sleep(POLL_SECONDS)


class Attempt:
    """The writing of one attempt: freezes batches that follow one another."""

    def __init__(self, claim: Claim) -> None:
        self.task_id, self.epoch, self.follows = claim.task_id, claim.epoch, claim.last_id
        self._next_seq = 0

    def freeze(self, *events: Event) -> Batch:
        """The next batch. It counts as written."""
        entries = tuple(
            (f"{self.epoch}-{self._next_seq + place}", event_type(event), encode_frame(event))
            for place, event in enumerate(events)
        )
        batch = Batch(task_id=self.task_id, epoch=self.epoch, follows=self.follows, entries=entries)
        self._next_seq += len(events)
        self.follows = batch.last_id
        return batch

    def say(self, *texts: str) -> Batch:
        """A batch of one delta for each text."""
        return self.freeze(*(Delta(task_id=self.task_id, content=text) for text in texts))

    def complete(self, content: str) -> Batch:
        """A batch that ends the task."""
        return self.freeze(completed(self.task_id, content))


def completed(task_id: str, content: str) -> Completed:
    """The terminal event of an answer."""
    return Completed(
        task_id=task_id,
        content=content,
        finish_reason="stop",
        usage=Usage(input_tokens=1, output_tokens=1),
        timings=Timings(queue_ms=1, total_ms=1),
        sha256="",
    )


class Hand:
    """A worker's half of the ledger, moved by a test step by step."""

    def __init__(self, url: str, settings: LedgerSettings, name: str) -> None:
        self.name = name
        self._runner = asyncio.Runner()
        self.client = PipelinedClient(url, timeout_seconds=5)
        self.ledger = AsyncLedger(self.client, settings, worker=name)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the worker's event loop."""
        return self._runner.run(work)

    def claim(self, task_id: str, *, held_epoch: str = "") -> Claim | None:
        """Try to take a task."""
        claim: Claim | None = self.run(self.ledger.claim(task_id, held_epoch=held_epoch))
        return claim

    def take(self, task_id: str, *, held_epoch: str = "") -> Attempt:
        """Take a task that is there to be taken."""
        claim = self.claim(task_id, held_epoch=held_epoch)
        assert claim is not None
        return Attempt(claim)

    def append(self, batch: Batch) -> Exception | None:
        """What the ledger says to a batch: None where it stands."""
        [verdict] = self.run(self.ledger.append([batch]))
        assert verdict is None or isinstance(verdict, Exception)
        return verdict

    def write(self, batch: Batch) -> None:
        """Append a batch that is to stand."""
        assert self.append(batch) is None

    def renew(self, *attempts: Attempt) -> set[str]:
        """Extend the leases of attempts. The ids of those that are fenced."""
        fenced: set[str] = self.run(self.ledger.renew({attempt.task_id: attempt.epoch for attempt in attempts}))
        return fenced

    def give_back(self, *attempts: Attempt) -> set[str]:
        """Hand attempts over to whoever comes next. The ids of those that are fenced."""
        held = {attempt.task_id: attempt.epoch for attempt in attempts}
        fenced: set[str] = self.run(self.ledger.renew(held, give_back=True))
        return fenced

    def close(self) -> None:
        """Let the connections go."""
        self.run(self.client.aclose())
        self._runner.close()


class Book:
    """What the store holds of tasks, and what tests do to tasks from outside."""

    def __init__(self, client: redis.Redis, ledger: Ledger) -> None:
        self.client: Any = client
        self._ledger = ledger

    def new_task(self, *, session_id: str = "", task_id: str = "", model: str = "demo", owner: str = "anna") -> str:
        """A task that has been created and waits."""
        task_id = task_id or new_task_id()
        created = Created(task_id=task_id, session_id=session_id or new_session_id(), model=model)
        self._ledger.create(created, owner=owner, queue="llm", request_id="req_1")
        return task_id

    def task(self, task_id: str) -> Task:
        """A task's state."""
        return Task.from_hash(self.client.hgetall(keys.task(task_id)))

    def log(self, task_id: str) -> list[LogEntry]:
        """All entries of a task's log."""
        return [from_stream(entry_id, fields) for entry_id, fields in self.client.xrange(keys.log(task_id))]

    def types(self, task_id: str) -> list[str]:
        """The types of a log's entries."""
        return [entry.type.decode() for entry in self.log(task_id)]

    def said(self, task_id: str) -> list[str]:
        """The contents of a log's deltas."""
        events = [decode_frame(entry.frame) for entry in self.log(task_id)]
        return [event.content for event in events if isinstance(event, Delta)]

    def pending_in_ms(self, task_id: str) -> float | None:
        """In how many ms the sweep is to look at a task; None where it never will."""
        score = self.client.zscore(keys.pending(bucket_of(task_id)), task_id)
        return None if score is None else score - self.now_ms()

    def ended_ms(self, task_id: str) -> float | None:
        """When a task ended, as `ended` has it."""
        score: float | None = self.client.zscore(keys.ended(bucket_of(task_id)), task_id)
        return score

    def now_ms(self) -> int:
        """The store's clock."""
        seconds, microseconds = self.client.time()
        return int(seconds) * 1000 + int(microseconds) // 1000

    def let_lease_run_out(self, task_id: str) -> None:
        """Return once the lease of a task has run out by the store's clock."""
        lease_ms = self.task(task_id).lease_ms
        assert lease_ms > 0
        wait_until(lambda: self.now_ms() > lease_ms)

    def let_it_be_due(self, task_id: str) -> None:
        """Return once the sweep is to look at a task."""
        wait_until(lambda: (self.pending_in_ms(task_id) or 0) < 0)

    def copy_of(self, task_id: str) -> dict[str, bytes]:
        """A task's hash and log as they are now, for a roll-back."""
        return {key: self.client.dump(key) for key in (keys.task(task_id), keys.log(task_id))}

    def go_back_to(self, copy: dict[str, bytes]) -> None:
        """Roll a task back to an earlier copy, as a store does that has lost its newest writes."""
        for key, dumped in copy.items():
            self.client.restore(key, 0, dumped, replace=True)


def assert_unbroken(entries: list[LogEntry]) -> None:
    """Every entry names the one before it, ids grow, and only the last one may be terminal."""
    assert [entry.previous for entry in entries] == [b"0-0", *(entry.id for entry in entries[:-1])]
    ids = [tuple(int(part) for part in entry.id.split(b"-")) for entry in entries]
    assert ids == sorted(set(ids))
    assert not [entry.type for entry in entries[:-1] if entry.type.decode() in TERMINAL_TYPES]


class MakeHand(Protocol):
    """Makes workers."""

    def __call__(self, name: str = "worker", **settings: Any) -> Hand: ...


class MakeLedger(Protocol):
    """Makes the threads' halves of the ledger."""

    def __call__(self, **settings: Any) -> Ledger: ...


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged. Not on the console: structlog takes a second there to draw a traceback."""
    with structlog.testing.capture_logs() as logged:
        yield logged


@pytest.fixture
def client(store_url: str) -> Iterator[redis.Redis]:
    """A plain client of the store."""
    with closing(connect(store_url, pool_size=50, timeout_seconds=5)) as client:
        yield client
        client.connection_pool.disconnect()


@pytest.fixture
def make_ledger(client: redis.Redis) -> MakeLedger:
    """Ledgers with settings of their own."""
    return lambda **settings: Ledger(client, LedgerSettings(**settings))


@pytest.fixture
def ledger(make_ledger: MakeLedger) -> Ledger:
    """The threads' half of the ledger, with the settings of production."""
    return make_ledger()


@pytest.fixture
def book(client: redis.Redis, ledger: Ledger) -> Book:
    """A look into the store."""
    return Book(client, ledger)


@pytest.fixture
def make_hand(store_url: str) -> Iterator[MakeHand]:
    """Workers, each with settings of its own."""
    hands: list[Hand] = []

    def make(name: str = "worker", **settings: Any) -> Hand:
        hands.append(Hand(store_url, LedgerSettings(**settings), name))
        return hands[-1]

    yield make
    for hand in hands:
        hand.close()


@pytest.fixture
def worker(make_hand: MakeHand) -> Hand:
    """A worker with the settings of production: its leases outlive any test."""
    return make_hand("worker")


@pytest.fixture
def other_worker(make_hand: MakeHand) -> Hand:
    """Another worker with the settings of production."""
    return make_hand("other")


@pytest.fixture
def late_worker(make_hand: MakeHand) -> Hand:
    """A worker whose leases run out before it can renew them."""
    return make_hand("late", lease_seconds=0.02)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """A store of the test's own, to be killed, stopped and set up as the test likes."""
    store = EmbeddedStore(tmp_path / "own-store", free_block(1), append_only=True)
    store.start()
    yield store
    store.kill()
