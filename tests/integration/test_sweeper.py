"""The sweeper: what nobody works on gets a job in the queue, once, whoever sweeps."""

import threading
from collections.abc import Iterator, MutableMapping
from typing import Any, Protocol

import pytest
import redis
from dramatiq import Message
from prometheus_client import REGISTRY

from demo.embedded_store import EmbeddedStore
from shared.contracts import keys
from shared.contracts.errors import StoreUnavailable
from shared.contracts.ids import bucket_of
from shared.contracts.jobs import GenerateAnswer
from shared.runtime.broker import EkidenBroker, wake_key
from shared.runtime.ledger import Ledger
from shared.runtime.queue import as_message
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import connect
from shared.runtime.sweeper import Sweeper
from tests.integration.conftest import Book, Hand
from tests.patience import wait_until


class MakeSweeper(Protocol):
    """Makes sweepers."""

    def __call__(self, **settings: Any) -> Sweeper: ...


@pytest.fixture
def broker(client: redis.Redis) -> EkidenBroker:
    """The queue's side of a worker."""
    return EkidenBroker(client)


@pytest.fixture
def make_sweeper(client: redis.Redis, broker: EkidenBroker) -> Iterator[MakeSweeper]:
    """Sweepers that are stopped after the test."""
    sweepers: list[Sweeper] = []

    def make(**settings: Any) -> Sweeper:
        ours = LedgerSettings(**settings)
        sweepers.append(Sweeper(Ledger(client, ours), broker, ours))
        return sweepers[-1]

    yield make
    for sweeper in sweepers:
        sweeper.stop()
    wait_until(lambda: not any(sweeper.alive() for sweeper in sweepers))


@pytest.fixture
def sweeper(make_sweeper: MakeSweeper) -> Sweeper:
    """A sweeper with the settings of production."""
    return make_sweeper()


def queued(client: redis.Redis) -> list[str]:
    """The names of the jobs that wait, head first."""
    names: Any = client.lrange("dramatiq:llm", 0, -1)
    return [name.decode() for name in names]


def queued_message(client: redis.Redis, name: str) -> Message[Any]:
    """A job that waits."""
    raw: Any = client.hget("dramatiq:llm.msgs", name)
    message: Message[Any] = Message.decode(raw)
    return message


def make_due(book: Book, task_id: str) -> None:
    """The sweep is to look at this task now."""
    assert book.client.zadd(keys.pending(bucket_of(task_id)), {task_id: 1}, xx=True, ch=True) == 1


def test_a_job_that_was_lost_is_made_again_under_the_same_name(
    sweeper: Sweeper, book: Book, client: redis.Redis
) -> None:
    task_id = book.new_task()  # and its job never came to be
    make_due(book, task_id)

    added = sweeper.sweep_once()

    assert added == 1
    assert queued(client) == [f"{task_id}:1"]
    message = queued_message(client, f"{task_id}:1")
    assert (message.actor_name, message.args) == ("generate_answer", (task_id,))
    assert message.kwargs == {"request_id": "req_1"}


def test_a_job_that_still_waits_is_not_made_again(
    sweeper: Sweeper, broker: EkidenBroker, book: Book, client: redis.Redis
) -> None:
    task_id = book.new_task()
    broker.put(as_message(GenerateAnswer(task_id=task_id, request_id="req_1")), at_head=False)
    make_due(book, task_id)

    added = sweeper.sweep_once()

    assert added == 0
    assert queued(client) == [f"{task_id}:1"]


def test_a_job_that_a_worker_has_fetched_is_not_made_again(
    sweeper: Sweeper, broker: EkidenBroker, book: Book, client: redis.Redis
) -> None:
    task_id = book.new_task()
    broker.put(as_message(GenerateAnswer(task_id=task_id)), at_head=False)
    broker.do_fetch("llm", 1)
    make_due(book, task_id)

    added = sweeper.sweep_once()

    assert added == 0
    assert queued(client) == []


def test_a_job_in_the_dead_letters_counts_as_lost(
    sweeper: Sweeper, broker: EkidenBroker, book: Book, client: redis.Redis
) -> None:
    task_id = book.new_task()
    broker.put(as_message(GenerateAnswer(task_id=task_id)), at_head=False)
    broker.do_fetch("llm", 1)
    broker.do_nack("llm", f"{task_id}:1")
    make_due(book, task_id)

    added = sweeper.sweep_once()

    assert added == 1
    assert queued(client) == [f"{task_id}:1"]


def test_a_lost_workers_task_goes_to_the_head_of_the_queue(
    sweeper: Sweeper, broker: EkidenBroker, book: Book, late_worker: Hand, client: redis.Redis
) -> None:
    lost, waiting = book.new_task(), book.new_task()
    broker.put(as_message(GenerateAnswer(task_id=waiting)), at_head=False)
    late_worker.take(lost)
    book.let_lease_run_out(lost)

    sweeper.sweep_once()

    assert queued(client) == [f"{lost}:2", f"{waiting}:1"]


def test_a_lost_workers_task_gets_its_job_though_the_dead_worker_still_holds_the_old_one(
    sweeper: Sweeper, broker: EkidenBroker, book: Book, late_worker: Hand, client: redis.Redis
) -> None:
    task_id = book.new_task()
    broker.put(as_message(GenerateAnswer(task_id=task_id)), at_head=False)
    broker.do_fetch("llm", 1)
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    added = sweeper.sweep_once()

    assert added == 1
    assert queued(client) == [f"{task_id}:2"]


def test_a_new_job_wakes_an_idle_worker(sweeper: Sweeper, book: Book, client: redis.Redis) -> None:
    make_due(book, book.new_task())

    sweeper.sweep_once()

    assert client.llen(wake_key("dramatiq", "llm")) == 1


def test_takeovers_are_counted(sweeper: Sweeper, book: Book, late_worker: Hand) -> None:
    before = REGISTRY.get_sample_value("ekiden_takeovers_total") or 0
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)
    make_due(book, book.new_task())

    sweeper.sweep_once()

    assert REGISTRY.get_sample_value("ekiden_takeovers_total") == before + 1


def test_a_sweep_that_may_not_take_over_leaves_leases_alone(
    sweeper: Sweeper, book: Book, late_worker: Hand, client: redis.Redis
) -> None:
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    added = sweeper.sweep_once(take_over=False)

    assert added == 0
    assert queued(client) == []
    assert book.task(task_id).crashes == 0


def test_ten_sweepers_make_one_job_for_each_task(
    make_sweeper: MakeSweeper, book: Book, late_worker: Hand, client: redis.Redis
) -> None:
    waiting, lost = [[book.new_task() for _ in range(20)] for _ in range(2)]
    for task_id in lost:
        late_worker.take(task_id)
    book.let_lease_run_out(lost[-1])
    for task_id in waiting:
        make_due(book, task_id)
    added: list[int] = []
    threads = [threading.Thread(target=lambda: added.append(make_sweeper().sweep_once())) for _ in range(10)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(added) == 40
    assert sorted(queued(client)) == sorted([f"{each}:1" for each in waiting] + [f"{each}:2" for each in lost])


def test_a_store_that_is_away_is_told_in_our_words(own_store: EmbeddedStore) -> None:
    client = connect(own_store.url, pool_size=2, timeout_seconds=1)
    sweeper = Sweeper(Ledger(client, LedgerSettings()), EkidenBroker(client), LedgerSettings())
    own_store.kill()

    with pytest.raises(StoreUnavailable):
        sweeper.sweep_once()

    client.connection_pool.disconnect()


def test_a_queue_that_is_away_is_told_in_our_words_and_the_task_gets_its_job_later(
    ledger: Ledger, sweeper: Sweeper, own_store: EmbeddedStore, book: Book, client: redis.Redis
) -> None:
    task_id = book.new_task()
    make_due(book, task_id)
    queue_client = connect(own_store.url, pool_size=2, timeout_seconds=1)
    own_store.kill()
    cut_off = Sweeper(ledger, EkidenBroker(queue_client), LedgerSettings())
    with pytest.raises(StoreUnavailable):
        cut_off.sweep_once()

    make_due(book, task_id)
    sweeper.sweep_once()

    assert queued(client) == [f"{task_id}:1"]
    queue_client.connection_pool.disconnect()


def test_it_sweeps_by_itself(make_sweeper: MakeSweeper, book: Book, client: redis.Redis) -> None:
    task_id = book.new_task()
    make_due(book, task_id)
    sweeper = make_sweeper()

    sweeper.start()

    wait_until(lambda: queued(client) == [f"{task_id}:1"], 3)
    assert sweeper.alive()


def test_when_it_starts_it_gives_living_workers_the_time_to_renew(
    make_sweeper: MakeSweeper, book: Book, late_worker: Hand, client: redis.Redis
) -> None:
    lost, waiting = book.new_task(), book.new_task()
    late_worker.take(lost)
    book.let_lease_run_out(lost)
    make_due(book, waiting)
    sweeper = make_sweeper(lease_seconds=4)  # so it waits for 2 s

    sweeper.start()

    wait_until(lambda: f"{waiting}:1" in queued(client), 3)
    assert queued(client) == [f"{waiting}:1"]
    wait_until(lambda: queued(client) == [f"{lost}:2", f"{waiting}:1"], 4)


def test_it_lives_through_an_outage_of_the_store(
    own_store: EmbeddedStore, logged: list[MutableMapping[str, Any]]
) -> None:
    client = connect(own_store.url, pool_size=4, timeout_seconds=0.5)
    settings = LedgerSettings(lease_seconds=1)
    book = Book(client, Ledger(client, settings))
    sweeper = Sweeper(Ledger(client, settings), EkidenBroker(client), settings)
    task_id = book.new_task()
    own_store.kill()
    sweeper.start()
    wait_until(lambda: "sweep_failed" in [line["event"] for line in logged])

    own_store.start()
    make_due(book, task_id)

    wait_until(lambda: queued(client) == [f"{task_id}:1"])
    assert sweeper.alive()
    sweeper.stop()
    wait_until(lambda: not sweeper.alive())
    client.connection_pool.disconnect()
