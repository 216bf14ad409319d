"""Workers come and go, in order or not: every answer goes on, once, and none is lost."""

import contextlib
import hashlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from demo.processes import Child
from shared.contracts import keys
from shared.contracts.jobs import LLM_QUEUE
from shared.runtime.broker import EkidenBroker
from tests.event_stream import Client
from tests.patience import wait_until
from tests.system import System

LEASE_SECONDS = 2.0

#: What the second promise says of a killed worker's task.
GOES_ON_SECONDS = 12.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A relay of two workers with short leases and a short drain."""
    settings = {"EKIDEN_LEASE_SECONDS": str(LEASE_SECONDS), "EKIDEN_WORKER_DRAIN_SECONDS": "1"}
    running = System(tmp_path_factory.mktemp("worker_stop"), workers=2, settings=settings)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def relay(pair: System) -> System:
    """The pair, both workers up."""
    start_what_ended(pair)
    for worker in pair.workers:
        pair.await_ready(worker)
    return pair


def start_what_ended(relay: System) -> None:
    """Done as soon as a test has seen its worker go, so that the import of litellm passes while the test goes on."""
    for worker in relay.workers:
        if not worker.is_running():
            worker.start()


class Listener:
    """A client of one task, on a thread of its own."""

    def __init__(self, relay: System, accepted: dict[str, Any]) -> None:
        self.client = Client()
        self._thread = threading.Thread(target=relay.read_to_end, args=(accepted["task_id"], self.client))
        self._thread.start()

    def has_read(self, deltas: int) -> bool:
        return self.client.types.count("delta") >= deltas

    def await_deltas(self, deltas: int) -> None:
        wait_until(lambda: self.has_read(deltas), what=f"{deltas} pieces")

    def to_end(self) -> Client:
        self._thread.join(timeout=45)
        assert self.client.end is not None
        return self.client


def holder(relay: System, accepted: dict[str, Any]) -> Child:
    """The worker that has the task now."""
    pid = int(hash_of(relay, accepted)["worker"].rsplit(":", 1)[1])
    return next(worker for worker in relay.workers if worker.pid == pid)


def hash_of(relay: System, accepted: dict[str, Any]) -> dict[str, str]:
    """The task as the store has it."""
    with relay.store_client() as store:
        fields = store.hgetall(keys.task(accepted["task_id"]))
    return {name.decode(): value.decode() for name, value in fields.items()}


def entries(relay: System, accepted: dict[str, Any]) -> list[tuple[str, str, bytes]]:
    """Id, type and frame of all entries in the log."""
    with relay.store_client() as store:
        rows = store.xrange(keys.log(accepted["task_id"]))
    return [(entry_id.decode(), fields[b"t"].decode(), fields[b"f"]) for entry_id, fields in rows]


def said(relay: System, message: str, model: str) -> str:
    """What the demo model says to a message: always the same."""
    accepted = relay.post(message, model=model)
    return relay.read_to_end(accepted["task_id"]).content


def assert_right(client: Client, expected: str) -> None:
    assert client.end is not None
    assert client.end.type == "completed", client.end.data
    assert client.content == client.end.data["content"] == expected
    assert client.end.data["sha256"] == hashlib.sha256(expected.encode()).hexdigest()
    assert client.repeated == 0


@contextlib.contextmanager
def stopped(worker: Child) -> Iterator[None]:
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(worker.pid, signal.SIGCONT)


def test_a_worker_that_is_told_to_end_hands_its_answer_over(relay: System) -> None:
    expected = said(relay, "Go on.", "demo/rate=0,tokens=90")
    accepted = relay.post("Go on.", model="demo/rate=20,tokens=90")
    listener = Listener(relay, accepted)
    listener.await_deltas(10)
    leaving = holder(relay, accepted)

    told_at = time.monotonic()
    leaving.terminate()
    wait_until(lambda: listener.client.types.count("started") == 2, what="the other worker has begun")
    seconds = time.monotonic() - told_at
    wait_until(lambda: not leaving.is_running(), what="the worker has ended")
    ending = leaving.how_it_ended()
    start_what_ended(relay)
    client = listener.to_end()

    assert_right(client, expected)
    assert seconds < 4  # 1 s of drain, a sweep each second, the model's first word
    assert ending == "exit status 0"
    task = hash_of(relay, accepted)
    assert (task["attempt"], task["crashes"]) == ("2", "0")
    resets = [frame for _, type_, frame in entries(relay, accepted) if type_ == "reset"]
    assert len(resets) == 1
    assert b'"reason":"handed_over"' in resets[0]
    assert relay.model_stats()["open_connections"] == 0


def test_a_worker_that_is_told_to_end_lets_a_short_answer_end(relay: System) -> None:
    accepted = relay.post("Go on.", model="demo/rate=200,tokens=60")
    listener = Listener(relay, accepted)
    listener.await_deltas(1)
    leaving = holder(relay, accepted)

    leaving.terminate()
    client = listener.to_end()
    wait_until(lambda: not leaving.is_running(), what="the worker has ended")

    assert client.end is not None
    assert client.end.type == "completed"
    assert client.types.count("started") == 1


def test_a_worker_without_answers_ends_at_once(relay: System) -> None:
    leaving = relay.workers[0]
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, what="nothing runs")

    began = time.monotonic()
    leaving.terminate()
    wait_until(lambda: not leaving.is_running(), what="the worker has ended")
    seconds = time.monotonic() - began

    assert leaving.how_it_ended() == "exit status 0"
    assert seconds < 2


def test_a_worker_that_ends_amid_a_burst_loses_nothing_and_crashes_nobody(relay: System) -> None:
    with ThreadPoolExecutor(16) as pool:
        tasks = list(pool.map(lambda n: relay.post(f"Hello {n}.", model="demo/rate=60,tokens=60"), range(16)))
        relay.workers[0].terminate()
        tasks += pool.map(lambda n: relay.post(f"Bye {n}.", model="demo/rate=60,tokens=60"), range(16))
        reading = pool.map(lambda accepted: relay.read_to_end(accepted["task_id"]), tasks)
        wait_until(lambda: not relay.workers[0].is_running(), what="the worker has ended")
        start_what_ended(relay)
        clients = list(reading)

    assert [client.end.type for client in clients if client.end is not None] == ["completed"] * 32
    assert all(client.content == client.end.data["content"] for client in clients if client.end is not None)
    states = [hash_of(relay, accepted) for accepted in tasks]
    assert {state["crashes"] for state in states} == {"0"}
    assert {state["attempt"] for state in states} <= {"1", "2"}


def test_a_worker_that_wakes_after_its_lease_finds_its_answer_gone(relay: System) -> None:
    expected = said(relay, "Go on.", "demo/rate=0,tokens=90")
    accepted = relay.post("Go on.", model="demo/rate=20,tokens=90")
    listener = Listener(relay, accepted)
    listener.await_deltas(10)
    zombie = holder(relay, accepted)
    first_epoch = hash_of(relay, accepted)["epoch"]

    with stopped(zombie):
        wait_until(lambda: listener.client.types.count("started") == 2, what="the other worker has begun")
        listener.await_deltas(20)
    client = listener.to_end()

    assert_right(client, expected)
    assert holder(relay, accepted) is not zombie
    state = hash_of(relay, accepted)
    assert (state["attempt"], state["crashes"]) == ("2", "1")
    epochs = [entry_id.split("-")[0] for entry_id, _, _ in entries(relay, accepted)]
    second_begins = epochs.index(state["epoch"])
    assert first_epoch not in epochs[second_begins:]
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, what="the zombie has left the model")
    assert said(relay, "Go on.", "demo/rate=0,tokens=90") == expected


def test_a_worker_that_sleeps_for_less_than_its_lease_keeps_its_answer(relay: System) -> None:
    expected = said(relay, "Go on.", "demo/rate=0,tokens=60")
    accepted = relay.post("Go on.", model="demo/rate=30,tokens=60")
    listener = Listener(relay, accepted)
    listener.await_deltas(10)

    with stopped(holder(relay, accepted)):
        end = time.monotonic() + LEASE_SECONDS / 4
        wait_until(lambda: time.monotonic() >= end)
    client = listener.to_end()

    assert_right(client, expected)
    assert client.types.count("started") == 1
    assert hash_of(relay, accepted)["crashes"] == "0"


@pytest.mark.timeout(120)
def test_a_task_that_takes_three_workers_down_is_given_up(relay: System) -> None:
    accepted = relay.post("Go on.", model="demo/rate=20,tokens=2000")
    listener = Listener(relay, accepted)

    for attempt in (1, 2, 3):
        wait_until(lambda n=attempt: listener.client.types.count("started") == n, what=f"attempt {attempt}")
        before = len(listener.client.types)
        wait_until(lambda n=before: len(listener.client.types) >= n + 5, what="some text")
        lost = holder(relay, accepted)
        lost.kill()
        lost.start()
    client = listener.to_end()
    for worker in relay.workers:
        relay.await_ready(worker)

    assert client.end is not None
    assert client.end.type == "failed"
    assert client.end.data["problem"]["code"] == "worker_crashed"
    assert client.end.data["partial"] == client.content
    assert client.content.startswith("You wrote “Go on.”.")
    types = [type_ for _, type_, _ in entries(relay, accepted)]
    assert types.count("failed") == 1
    assert types.count("started") == 3
    assert hash_of(relay, accepted)["crashes"] == "3"


def test_tasks_that_wait_while_all_workers_are_killed_are_answered_once_one_is_back(relay: System) -> None:
    asked = relay.model_stats()["requests"]
    with ThreadPoolExecutor(8) as pool:
        for worker in relay.workers:
            worker.kill()
        tasks = list(pool.map(lambda n: relay.post(f"Hello {n}.", model="demo/echo,rate=0"), range(8)))
        waiting = [relay.task(accepted["task_id"])["status"] for accepted in tasks]

        relay.restart(relay.workers[0])
        clients = list(pool.map(lambda accepted: relay.read_to_end(accepted["task_id"]), tasks))

    assert waiting == ["queued"] * 8
    assert [client.content for client in clients] == [f"Hello {n}." for n in range(8)]
    assert all(client.types.count("started") == 1 for client in clients)
    assert relay.model_stats()["requests"] == asked + 8


def test_a_job_that_a_lost_worker_had_fetched_and_not_begun_is_done_by_another(relay: System) -> None:
    with contextlib.ExitStack() as sleeping, relay.store_client() as store:
        for worker in relay.workers:
            sleeping.enter_context(stopped(worker))
        accepted = relay.post("Hello.", model="demo/echo,rate=0")
        fetched = EkidenBroker(store).do_fetch(LLM_QUEUE, 1)  # by a worker that is never heard of again

    began = time.monotonic()
    client = relay.read_to_end(accepted["task_id"])
    seconds = time.monotonic() - began

    assert len(fetched) == 1
    assert client.content == "Hello."
    assert seconds < GOES_ON_SECONDS


@pytest.mark.timeout(90)
def test_workers_that_are_killed_amid_a_burst_lose_nothing(relay: System) -> None:
    with ThreadPoolExecutor(24) as pool:
        reading = []
        for n in range(24):
            accepted = relay.post(f"Hello {n}.", model="demo/rate=30,tokens=40")
            reading.append((accepted, pool.submit(relay.read_to_end, accepted["task_id"])))
            if n == 12:
                relay.workers[0].kill()
                killed_at = time.monotonic()
        start_what_ended(relay)
        clients = [(accepted, future.result(timeout=60)) for accepted, future in reading]

    assert time.monotonic() - killed_at < GOES_ON_SECONDS + 5
    for accepted, client in clients:
        assert client.end is not None
        assert client.end.type == "completed"
        assert client.content == client.end.data["content"]
        assert client.repeated == 0
        state = hash_of(relay, accepted)
        assert int(state["crashes"]) <= 1
        assert [type_ for _, type_, _ in entries(relay, accepted)].count("completed") == 1


def test_a_cancel_reaches_an_answer_whose_worker_is_gone(relay: System) -> None:
    accepted = relay.post("Go on.", model="demo/rate=20,tokens=500")
    listener = Listener(relay, accepted)
    listener.await_deltas(5)
    holder(relay, accepted).kill()
    start_what_ended(relay)

    task = relay.http.post(accepted["urls"]["cancel"]).json()
    client = listener.to_end()

    assert task["status"] == "cancelled"
    assert client.end is not None
    assert client.end.type == "cancelled"
    assert client.end.data["partial"] == client.content == task["content"]
    assert client.types.count("started") == 1


def test_a_cancel_reaches_an_answer_whose_worker_sleeps(relay: System) -> None:
    accepted = relay.post("Go on.", model="demo/rate=20,tokens=500")
    listener = Listener(relay, accepted)
    listener.await_deltas(5)

    with stopped(holder(relay, accepted)):
        task = relay.http.post(accepted["urls"]["cancel"]).json()
        client = listener.to_end()

    assert task["status"] == "cancelled"
    assert client.end is not None
    assert client.end.type == "cancelled"
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, what="the worker has left the model")
    assert [type_ for _, type_, _ in entries(relay, accepted)][-1] == "cancelled"
