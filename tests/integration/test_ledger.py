"""The ledger as a whole: any interleaving of its scripts, and a store that forgets them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from shared.contracts import keys
from shared.contracts.entries import LogEntry
from shared.contracts.ids import bucket_of
from shared.contracts.transcript import Transcript
from shared.runtime.ledger import Ledger
from shared.runtime.ledger_async import Batch
from tests.integration.conftest import Attempt, Book, Hand, MakeHand, assert_unbroken
from tests.patience import wait_until

WORKERS = st.integers(0, 2)

STEPS = st.one_of(
    st.tuples(st.just("claim"), WORKERS, st.booleans()),
    st.tuples(st.just("write"), WORKERS, st.integers(1, 3)),
    st.tuples(st.just("write"), WORKERS, st.integers(1, 3)),
    st.tuples(st.just("resend"), WORKERS, st.integers(0, 20)),
    st.tuples(st.just("complete"), WORKERS, st.integers(0, 2)),
    st.tuples(st.just("hand_over"), WORKERS, st.just(0)),
    st.tuples(st.just("renew"), WORKERS, st.just(0)),
    st.tuples(st.just("lease_runs_out"), st.just(0), st.just(0)),
    st.tuples(st.just("sweep"), st.just(0), st.booleans()),
    st.tuples(st.just("cancel"), st.just(0), st.just(0)),
)

ROLL_BACKS = st.sampled_from([("remember", 0, 0), ("go_back", 0, 0)])

#: What a worker does when it has been told that the store went back.
AGAIN = [("write", 0, 1), ("claim", 0, 1), ("write", 0, 1), ("complete", 0, 0)]

Step = tuple[str, int, int]


class Relay:
    """One task and three workers who do the wildest things with it."""

    def __init__(self, book: Book, ledger: Ledger, hands: list[Hand]) -> None:
        self._book, self._ledger, self._hands = book, ledger, hands
        self.task_id = book.new_task()
        self._attempts: list[Attempt | None] = [None, None, None]
        self._sent: list[list[Batch]] = [[], [], []]
        self._words = 0
        self._copy = book.copy_of(self.task_id)
        self.stands: set[str] = set()

    def do(self, step: Step) -> None:
        """One step; none of them may fail, whoever holds the task."""
        kind, who, argument = step
        hand, attempt = self._hands[who], self._attempts[who]
        match kind:
            case "claim":
                held_epoch = attempt.epoch if attempt is not None and argument else ""
                if (claim := hand.claim(self.task_id, held_epoch=held_epoch)) is not None:
                    self._attempts[who] = Attempt(claim)
            case "write" if attempt is not None:
                self._send(who, attempt.say(*[self._word() for _ in range(argument)]))
            case "complete" if attempt is not None:
                self._send(who, attempt.complete(self._word()))
            case "resend" if self._sent[who]:
                self._send(who, self._sent[who][argument % len(self._sent[who])], again=True)
            case "hand_over" if attempt is not None:
                hand.give_back(attempt)
            case "renew" if attempt is not None:
                hand.renew(attempt)
            case "lease_runs_out":
                self._let_lease_run_out()
            case "sweep":
                self._book.client.zadd(keys.pending(bucket_of(self.task_id)), {self.task_id: 1}, xx=True, lt=True)
                self._ledger.sweep(take_over=bool(argument))
            case "cancel":
                self._ledger.cancel(self.task_id, by="user")
            case "remember":
                self._copy = self._book.copy_of(self.task_id)
            case "go_back":
                self._go_back()

    def _send(self, who: int, batch: Batch, *, again: bool = False) -> None:
        if not again:
            self._sent[who].append(batch)
        if self._hands[who].append(batch) is None:
            self.stands.update(entry_id for entry_id, _, _ in batch.entries)

    def _word(self) -> str:
        self._words += 1
        return f"{self._words} "

    def _go_back(self) -> None:
        before_ms = self._book.now_ms()
        self._book.go_back_to(self._copy)
        if not self._book.task(self.task_id).ended:
            self._book.client.zadd(keys.pending(bucket_of(self.task_id)), {self.task_id: 1})
        wait_until(lambda: self._book.now_ms() > before_ms)  # no store goes back and serves within a millisecond

    def _let_lease_run_out(self) -> None:
        if self._book.task(self.task_id).lease_ms:
            self._book.client.hset(keys.task(self.task_id), "lease_ms", "1")


@settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS, min_size=5, max_size=40))
@example(steps=[("claim", 0, 0), ("write", 0, 2), ("lease_runs_out", 0, 0), ("claim", 1, 0), ("resend", 0, 0)])
@example(steps=[("claim", 0, 0), ("complete", 0, 0), ("cancel", 0, 0), ("resend", 0, 0), ("claim", 0, 1)])
@example(steps=[("claim", 0, 0), ("write", 0, 1), ("cancel", 0, 0), ("complete", 0, 0), ("resend", 0, 0)])
@example(steps=[("claim", 0, 0), ("claim", 0, 1), ("hand_over", 0, 0), ("sweep", 0, 1), ("write", 0, 1)])
def test_whatever_three_workers_do_the_log_stays_one_unbroken_chain(
    book: Book, ledger: Ledger, three_hands: list[Hand], steps: list[Step]
) -> None:
    relay = Relay(book, ledger, three_hands)

    for step in steps:
        relay.do(step)

    log, task = book.log(relay.task_id), book.task(relay.task_id)
    assert_unbroken(log)
    assert relay.stands <= {entry.id.decode() for entry in log}
    said = book.said(relay.task_id)
    assert len(said) == len(set(said))
    if task.ended:
        assert (log[-1].type.decode(), log[-1].id.decode(), log[-1].frame) == (
            task.status,
            task.last_id,
            task.end_frame,
        )
        assert book.pending_in_ms(relay.task_id) is None
    else:
        assert log[-1].type.decode() not in ("completed", "failed", "cancelled")
        assert book.pending_in_ms(relay.task_id) is not None
    if task.status == "cancelled":
        assert task.end is not None
        assert _folded(book, relay.task_id) == "".join(said)


@settings(
    max_examples=100,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=st.lists(STEPS | ROLL_BACKS, min_size=5, max_size=40))
@example(steps=[("claim", 0, 0), ("write", 0, 2), ("remember", 0, 0), ("write", 0, 1), ("go_back", 0, 0), *AGAIN])
@example(steps=[("remember", 0, 0), ("claim", 0, 0), ("complete", 0, 0), ("go_back", 0, 0), *AGAIN])
@example(steps=[("remember", 0, 0), ("cancel", 0, 0), ("go_back", 0, 0), ("cancel", 0, 0)])
def test_an_id_never_stands_for_two_entries_though_the_store_goes_back(
    book: Book, ledger: Ledger, three_hands: list[Hand], steps: list[Step]
) -> None:
    relay = Relay(book, ledger, three_hands)
    seen: dict[bytes, LogEntry] = {}

    for step in steps:
        relay.do(step)
        for entry in book.log(relay.task_id):
            assert seen.setdefault(entry.id, entry) == entry

    assert_unbroken(book.log(relay.task_id))


def test_a_store_that_forgets_its_scripts_is_told_them_again(
    book: Book, ledger: Ledger, make_hand: MakeHand, client: redis.Redis
) -> None:
    worker = make_hand(lease_seconds=0.01)

    def forget() -> None:
        client.script_flush()

    forget()
    task_id = book.new_task()
    forget()
    attempt = worker.take(task_id)
    forget()
    worker.write(attempt.say("a"))
    forget()
    fenced = worker.renew(attempt)
    forget()
    book.let_lease_run_out(task_id)
    due = ledger.sweep(take_over=True)
    forget()
    ledger.cancel(task_id, by="user")

    assert fenced == set()
    assert len(due) == 1
    assert book.types(task_id) == ["created", "delta", "cancelled"]


def test_batches_that_share_a_round_trip_all_stand_once_though_the_scripts_were_forgotten(
    book: Book, worker: Hand, client: redis.Redis
) -> None:
    attempts = [worker.take(book.new_task()) for _ in range(20)]
    batches = [attempt.say("a", "b") for attempt in attempts]
    client.script_flush()

    verdicts = worker.run(worker.ledger.append(batches))

    assert verdicts == [None] * 20
    assert [book.said(attempt.task_id) for attempt in attempts] == [["a", "b"]] * 20


def test_leases_in_many_buckets_are_renewed_though_the_scripts_were_forgotten(
    book: Book, worker: Hand, client: redis.Redis
) -> None:
    attempts = [worker.take(book.new_task()) for _ in range(20)]
    client.script_flush()

    fenced = worker.renew(*attempts)

    assert fenced == set()


def test_appends_stand_while_scripts_are_forgotten_again_and_again(
    book: Book, worker: Hand, client: redis.Redis
) -> None:
    attempt = worker.take(book.new_task())

    with _forgetting_all_the_time(client):
        verdicts = [worker.append(attempt.say(f"{number}")) for number in range(200)]

    assert verdicts == [None] * 200


def test_leases_are_renewed_while_scripts_are_forgotten_again_and_again(
    book: Book, worker: Hand, client: redis.Redis
) -> None:
    attempts = [worker.take(book.new_task()) for _ in range(5)]

    with _forgetting_all_the_time(client):
        fenced = [worker.renew(*attempts) for _ in range(50)]

    assert fenced == [set()] * 50


@pytest.fixture
def three_hands(make_hand: MakeHand) -> list[Hand]:
    """Three workers with the settings of production."""
    return [make_hand(f"worker-{number}", max_crashes=2) for number in range(3)]


@contextmanager
def _forgetting_all_the_time(client: redis.Redis) -> Iterator[None]:
    over = threading.Event()

    def forget() -> None:
        while not over.is_set():
            client.script_flush()

    forgetting = threading.Thread(target=forget)
    forgetting.start()
    try:
        yield
    finally:
        over.set()
        forgetting.join()


def _folded(book: Book, task_id: str) -> str:
    transcript = Transcript()
    for entry in book.log(task_id):
        transcript.add(entry)
    return transcript.content
