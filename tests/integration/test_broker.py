"""The broker with a real Dramatiq worker: jobs are picked up at once, and none is lost."""

import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import dramatiq.worker
import pytest
import redis
from dramatiq import Message, Worker
from dramatiq.actor import actor

from shared.runtime.broker import EkidenBroker, wake_client, wake_key
from shared.runtime.event_loop import DeadLetters
from shared.runtime.store import connect
from tests.patience import wait_until

HEARTBEATS = "dramatiq:__heartbeats__"

#: Well below what the stock broker needs (400 ms in the middle), well above what a busy machine adds.
PROMPT_SECONDS = 0.05


class Node:
    """A process as the queue sees it: a broker, and a worker once it is started."""

    def __init__(self, url: str, queues: tuple[str, ...]) -> None:
        self.broker = EkidenBroker(
            connect(url, pool_size=20, timeout_seconds=5),
            wake_client=wake_client(url, wait_seconds=1, consumers=4),
            middleware=[DeadLetters()],
        )
        self.ran: list[str] = []
        self.ran_at: list[float] = []
        self.blocked = threading.Event()
        self._unblocked = threading.Event()
        self._worker: Any = None
        for queue in queues:
            self.broker.declare_queue(queue)
        self._declare_actors(queues[0])

    def start(self, *, threads: int = 2, poll_ms: int = 200) -> "Node":
        """Begin to take jobs."""
        self._worker = Worker(self.broker, worker_threads=threads, worker_timeout=poll_ms)
        self._worker.queue_prefetch = threads
        self._worker.start()
        return self

    @property
    def consumers(self) -> dict[str, threading.Thread]:
        """Dramatiq's consumer threads by queue."""
        consumers: dict[str, threading.Thread] = self._worker.consumers
        return consumers

    def unblock(self) -> None:
        """Let the jobs that block end."""
        self._unblocked.set()

    def stop(self) -> None:
        """End in order, and let the connections go."""
        self.unblock()
        if self._worker is not None:
            self._worker.stop(timeout=10_000)
        for client in (self.broker.client, self.broker.wake_client):
            client.connection_pool.disconnect()

    def _declare_actors(self, queue: str) -> None:
        @actor(broker=self.broker, actor_name="run", queue_name=queue)
        def run(name: str) -> None:
            self.ran_at.append(time.monotonic())
            self.ran.append(name)

        @actor(broker=self.broker, actor_name="block", queue_name=queue)
        def block(name: str) -> None:
            self.blocked.set()
            self._unblocked.wait(30)
            self.ran.append(name)

        @actor(broker=self.broker, actor_name="fail", queue_name=queue)
        def fail(name: str) -> None:
            raise RuntimeError(name)


class MakeNode(Protocol):
    """Makes nodes."""

    def __call__(self, *queues: str) -> Node: ...


@pytest.fixture
def make_node(store_url: str) -> Iterator[MakeNode]:
    """Nodes that are stopped after the test."""
    nodes: list[Node] = []

    def make(*queues: str) -> Node:
        nodes.append(Node(store_url, queues or ("llm",)))
        return nodes[-1]

    yield make
    for node in nodes:
        node.unblock()
    for node in nodes:
        node.stop()


@pytest.fixture
def node(make_node: MakeNode) -> Node:
    """A node that has not been started."""
    return make_node()


@pytest.fixture
def fast_restarts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dramatiq restarts a consumer, and sends an ack again, after a moment and not after seconds."""
    monkeypatch.setattr(dramatiq.worker, "CONSUMER_RESTART_DELAY_SECS", 0.1)
    monkeypatch.setattr(dramatiq.worker, "POST_PROCESS_MESSAGE_RETRY_DELAY_SECS", 0.1)


@pytest.fixture
def refuses_writes(client: redis.Redis) -> Iterator[None]:
    """For setting up a test in which the store answers NOREPLICAS to writes: it is set back whatever happens."""
    client.config_resetstat()
    yield
    client.config_set("min-replicas-to-write", 0)


def job(name: str, actor_name: str = "run", queue: str = "llm") -> Message[Any]:
    """A job."""
    return Message(queue_name=queue, actor_name=actor_name, args=(name,), kwargs={}, options={}, message_id=f"{name}:1")


def dead_letters(client: redis.Redis, queue: str = "llm") -> list[str]:
    """The names in the dead letters of a queue."""
    names: Any = client.zrange(f"dramatiq:{queue}.XQ", 0, -1)
    return [name.decode() for name in names]


def held_by(client: redis.Redis, node: Node, queue: str = "llm") -> set[bytes]:
    """The jobs that Redis counts as a node's."""
    names: Any = client.smembers(f"dramatiq:__acks__.{node.broker.broker_id}.{queue}")
    return set(names)


def is_empty(client: redis.Redis, queue: str = "llm") -> bool:
    """Whether nothing waits in a queue, runs, or lies in between."""
    return client.hlen(f"dramatiq:{queue}.msgs") == client.llen(f"dramatiq:{queue}") == 0


def refused_writes(client: redis.Redis) -> int:
    """How many writes the store has refused since its statistics began."""
    counted: Any = client.info("errorstats")
    return int(counted.get("errorstat_NOREPLICAS", {}).get("count", 0))


def test_an_idle_worker_picks_a_job_up_at_once(node: Node) -> None:
    node.start(poll_ms=2000)
    waits = []

    for number in range(20):
        put_at = time.monotonic()
        node.broker.put(job(str(number)), at_head=False)
        wait_until(lambda number=number: len(node.ran) == number + 1)
        waits.append(node.ran_at[-1] - put_at)

    assert statistics.median(waits) < PROMPT_SECONDS


def test_jobs_run_in_the_order_in_which_they_came(node: Node) -> None:
    for number in range(10):
        node.broker.enqueue(job(str(number)))

    node.start(threads=1)

    wait_until(lambda: len(node.ran) == 10)
    assert node.ran == [str(number) for number in range(10)]


def test_a_job_at_the_head_runs_before_those_at_the_tail(node: Node) -> None:
    node.broker.put(job("first"), at_head=False)
    node.broker.put(job("second"), at_head=False)
    node.broker.put(job("urgent"), at_head=True)

    node.start(threads=1)

    wait_until(lambda: len(node.ran) == 3)
    assert node.ran == ["urgent", "first", "second"]


def test_a_job_put_twice_under_one_name_is_one_job(node: Node, client: redis.Redis) -> None:
    added = [node.broker.put(job("a"), at_head=False), node.broker.put(job("a"), at_head=True)]

    node.start()

    wait_until(lambda: is_empty(client))
    assert added == [True, False]
    assert node.ran == ["a"]


def test_a_job_that_runs_is_not_put_again(node: Node, client: redis.Redis) -> None:
    node.broker.put(job("a", "block"), at_head=False)
    node.start()
    assert node.blocked.wait(10)

    added = node.broker.put(job("a", "block"), at_head=True)

    node.unblock()
    wait_until(lambda: is_empty(client))
    assert not added
    assert node.ran == ["a"]


def test_a_name_may_be_used_again_when_its_job_is_done(node: Node, client: redis.Redis) -> None:
    node.start()
    node.broker.put(job("a"), at_head=False)
    wait_until(lambda: is_empty(client))

    added = node.broker.put(job("a"), at_head=False)

    wait_until(lambda: node.ran == ["a", "a"])
    assert added


def test_a_job_that_is_done_leaves_nothing_behind(node: Node, client: redis.Redis) -> None:
    node.start()

    node.broker.put(job("a"), at_head=False)

    wait_until(lambda: node.ran == ["a"])
    wait_until(lambda: is_empty(client) and not held_by(client, node) and not node.broker.held["llm"])
    assert dead_letters(client) == []


def test_an_undecodable_job_goes_to_the_dead_letters_and_its_neighbours_run(node: Node, client: redis.Redis) -> None:
    client.hset("dramatiq:llm.msgs", mapping={"bytes": b"\xff\xfe", "json": b"[1]", "stock": _stock_message()})
    node.broker.put(job("before"), at_head=False)
    client.rpush("dramatiq:llm", "bytes", "json", "stock", "no message at all")
    node.broker.put(job("after"), at_head=False)

    node.start(threads=8)

    wait_until(lambda: is_empty(client))
    assert sorted(node.ran) == ["after", "before"]
    assert sorted(dead_letters(client)) == ["bytes", "json", "stock"]
    wait_until(lambda: not held_by(client, node))


def test_a_job_for_an_unknown_actor_goes_to_the_dead_letters(node: Node, client: redis.Redis) -> None:
    node.broker.put(job("a", "nobody"), at_head=False)
    node.broker.put(job("b"), at_head=False)

    node.start()

    wait_until(lambda: is_empty(client))
    assert dead_letters(client) == ["a:1"]
    assert node.ran == ["b"]


def test_a_job_whose_actor_raises_goes_to_the_dead_letters_and_is_not_tried_again(
    node: Node, client: redis.Redis
) -> None:
    node.broker.put(job("a", "fail"), at_head=False)
    node.broker.put(job("b"), at_head=False)

    node.start(threads=1)

    wait_until(lambda: is_empty(client))
    assert dead_letters(client) == ["a:1"]
    assert node.ran == ["b"]


def test_what_a_lost_reply_left_behind_runs_after_all(node: Node, client: redis.Redis) -> None:
    for name in ("a", "b", "c"):
        node.broker.put(job(name), at_head=False)
    node.broker.do_fetch("llm", 2)  # and nobody gets the reply

    node.start()

    wait_until(lambda: is_empty(client))
    assert sorted(node.ran) == ["a", "b", "c"]


def test_a_dead_workers_jobs_come_back(make_node: MakeNode, client: redis.Redis) -> None:
    dead, living = make_node(), make_node()
    for name in ("a", "b"):
        dead.broker.put(job(name), at_head=False)
    dead.broker.do_fetch("llm", 2)
    client.zadd(HEARTBEATS, {dead.broker.broker_id: _ms_ago(20_000)})

    living.start()

    wait_until(lambda: is_empty(client))
    assert sorted(living.ran) == ["a", "b"]


def test_a_dead_workers_jobs_come_back_in_each_of_its_queues_alike(make_node: MakeNode, client: redis.Redis) -> None:
    queues = ("llm", "default", "feedback")
    dead, living = make_node(*queues), make_node(*queues)
    for queue in queues:
        dead.broker.put(job(queue, queue=queue), at_head=False)
        dead.broker.do_fetch(queue, 1)
    client.zadd(HEARTBEATS, {dead.broker.broker_id: _ms_ago(20_000)})

    living.start()

    wait_until(lambda: len(living.ran) == 3, 3, "a first look at each queue")
    assert sorted(living.ran) == sorted(queues)


def test_a_living_workers_jobs_are_left_to_it(make_node: MakeNode, client: redis.Redis) -> None:
    busy, idle = make_node(), make_node()
    for node in (busy, idle):
        node.broker.heartbeat_timeout = 1000
    busy.broker.put(job("a", "block"), at_head=False)
    busy.start(threads=1, poll_ms=50)
    assert busy.blocked.wait(10)
    started_at = time.monotonic()
    idle.start(poll_ms=50)

    wait_until(lambda: time.monotonic() - started_at > 1.5)

    assert idle.ran == []
    assert held_by(client, busy) == {b"a:1"}


def test_a_draining_consumer_takes_nothing_new(make_node: MakeNode, client: redis.Redis) -> None:
    draining, next_one = make_node(), make_node()
    draining.start()
    draining.broker.put(job("before"), at_head=False)
    wait_until(lambda: draining.ran == ["before"])
    draining.broker.draining.set()
    _await_heartbeats(client, draining, 5)

    for number in range(5):
        draining.broker.put(job(str(number)), at_head=False)
    _await_heartbeats(client, draining, 5)

    assert draining.ran == ["before"]
    next_one.start()
    wait_until(lambda: len(next_one.ran) == 5)


def test_a_draining_consumer_finishes_what_runs(node: Node, client: redis.Redis) -> None:
    node.broker.put(job("a", "block"), at_head=False)
    node.start()
    assert node.blocked.wait(10)

    node.broker.draining.set()
    node.unblock()

    wait_until(lambda: is_empty(client))
    assert node.ran == ["a"]


def test_a_stopped_worker_gives_back_what_it_has_not_begun(make_node: MakeNode, client: redis.Redis) -> None:
    stopping, next_one = make_node(), make_node()
    for name in ("a", "b", "c"):
        stopping.broker.put(job(name, "block"), at_head=False)
    stopping.start(threads=1)
    assert stopping.blocked.wait(10)

    stopping.stop()

    assert stopping.ran == ["a"]
    assert held_by(client, stopping) == set()
    next_one.unblock()
    next_one.start()
    wait_until(lambda: sorted(next_one.ran) == ["b", "c"])


@pytest.mark.usefixtures("fast_restarts", "refuses_writes")
def test_a_store_that_refuses_writes_for_a_while_kills_no_consumer(node: Node, client: redis.Redis) -> None:
    node.start()
    threads = list(node.consumers.values())
    client.config_set("min-replicas-to-write", 1)
    wait_until(lambda: refused_writes(client) >= 3)

    client.config_set("min-replicas-to-write", 0)
    node.broker.put(job("a"), at_head=False)

    wait_until(lambda: node.ran == ["a"])
    assert list(node.consumers.values()) == threads
    assert all(thread.is_alive() for thread in threads)


@pytest.mark.usefixtures("fast_restarts", "refuses_writes")
def test_a_job_that_ends_while_the_store_refuses_writes_is_done_once(node: Node, client: redis.Redis) -> None:
    node.broker.put(job("a", "block"), at_head=False)
    node.start()
    assert node.blocked.wait(10)
    client.config_set("min-replicas-to-write", 1)
    node.unblock()
    wait_until(lambda: node.ran == ["a"] and refused_writes(client) >= 3)

    client.config_set("min-replicas-to-write", 0)

    wait_until(lambda: is_empty(client) and not held_by(client, node))
    assert node.ran == ["a"]


@pytest.mark.usefixtures("fast_restarts")
def test_connections_that_break_lose_no_job(node: Node, client: redis.Redis) -> None:
    node.start()
    names = [str(number) for number in range(60)]

    for name in names:
        node.broker.put(job(name), at_head=False)
        if int(name) % 20 == 10:
            client.client_kill_filter(_type="normal", skipme=True)

    wait_until(lambda: is_empty(client))
    assert set(node.ran) == set(names)
    assert dead_letters(client) == []


def test_a_full_consumer_leaves_wake_tokens_to_others(node: Node, client: redis.Redis) -> None:
    node.broker.put(job("a", "block"), at_head=False)
    node.start(threads=1, poll_ms=50)
    assert node.blocked.wait(10)
    client.delete(wake_key("dramatiq", "llm"))

    node.broker.put(job("b"), at_head=False)
    _await_heartbeats(client, node, 5)

    assert client.llen(wake_key("dramatiq", "llm")) == 1
    assert held_by(client, node) == {b"a:1"}


def test_an_idle_worker_is_prompt_beside_a_full_one(make_node: MakeNode) -> None:
    full, idle = make_node(), make_node()
    full.broker.put(job("a", "block"), at_head=False)
    full.start(threads=1, poll_ms=50)
    assert full.blocked.wait(10)
    idle.start(poll_ms=2000)
    waits = []

    for number in range(10):
        put_at = time.monotonic()
        full.broker.put(job(str(number)), at_head=False)
        wait_until(lambda number=number: len(idle.ran) == number + 1)
        waits.append(idle.ran_at[-1] - put_at)

    assert statistics.median(waits) < PROMPT_SECONDS


def test_wake_tokens_do_not_pile_up(node: Node, client: redis.Redis) -> None:
    for number in range(200):
        node.broker.put(job(str(number)), at_head=False)

    assert client.llen(wake_key("dramatiq", "llm")) == 64
    node.start()
    wait_until(lambda: len(node.ran) == 200)


def test_more_jobs_than_one_fetch_takes_all_run_once(make_node: MakeNode, client: redis.Redis) -> None:
    nodes = [make_node().start(threads=4) for _ in range(2)]

    for number in range(300):
        nodes[0].broker.put(job(str(number)), at_head=number % 2 == 0)

    wait_until(lambda: is_empty(client))
    assert Counter(nodes[0].ran + nodes[1].ran) == Counter(str(number) for number in range(300))


def test_there_is_no_consumer_for_delays(make_node: MakeNode) -> None:
    node = make_node("llm", "default")

    node.start()

    assert set(node.consumers) == {"llm", "default"}


def test_a_delay_is_refused(node: Node, client: redis.Redis) -> None:
    message = job("a")

    with pytest.raises(ValueError, match="no delays"):
        node.broker.enqueue(message, delay=1000)

    assert client.keys("dramatiq:*") == []


def test_a_job_can_be_put_while_the_scripts_are_forgotten(node: Node, client: redis.Redis) -> None:
    node.start()

    for number in range(5):
        client.script_flush()
        node.broker.put(job(str(number)), at_head=False)

    wait_until(lambda: sorted(node.ran) == [str(number) for number in range(5)])


def _ms_ago(milliseconds: int) -> int:
    return time.time_ns() // 1_000_000 - milliseconds


def _await_heartbeats(client: redis.Redis, node: Node, count: int) -> None:
    """Return once the node's consumer has been around a few times."""
    seen: set[object] = set()

    def heard() -> bool:
        seen.add(client.zscore(HEARTBEATS, node.broker.broker_id))
        return len(seen) > count

    wait_until(heard)


def _stock_message() -> bytes:
    """A message as another program might put it: sound, but without a name of ours."""
    encoded: bytes = job("stock").encode()
    return encoded
