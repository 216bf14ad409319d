"""The feedback_worker serves its queues; it has no actors yet, so what comes is kept as a dead letter."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from dramatiq import Message

from demo.ports import free_block
from demo.processes import Child, stop
from demo.readiness import answers_ok
from shared.contracts.jobs import ANALYTICS_QUEUE, DEFAULT_QUEUE, FEEDBACK_QUEUE
from shared.runtime.broker import EkidenBroker
from tests.patience import wait_until


@pytest.fixture
def worker(store_url: str, tmp_path: Path) -> Iterator[Child]:
    """A feedback_worker that is ready."""
    port = free_block(1)
    environment = {"EKIDEN_STORE_URL": store_url, "EKIDEN_OPS_PORT": str(port), "PATH": os.environ["PATH"]}
    child = Child(
        "feedback_worker", [sys.executable, "-m", "services.feedback_worker"], environment, tmp_path / "worker.log"
    )
    child.start()
    try:
        wait_until(lambda: answers_ok(port, "/readyz"), what="the feedback_worker")
        assert answers_ok(port, "/livez")
        yield child
    finally:
        stop([child])


@pytest.mark.parametrize("queue", [FEEDBACK_QUEUE, ANALYTICS_QUEUE, DEFAULT_QUEUE])
def test_a_job_that_nobody_knows_becomes_a_dead_letter_and_the_worker_goes_on(
    worker: Child, store_url: str, queue: str
) -> None:
    with redis.Redis.from_url(store_url) as client:
        broker = EkidenBroker(client)

        for name in ("first", "second"):
            job = Message(queue_name=queue, actor_name="unknown", args=(), kwargs={}, options={}, message_id=name)
            broker.put(job, at_head=False)

        wait_until(lambda: client.zcard(f"dramatiq:{queue}.XQ") == 2, what="two dead letters")
        assert client.llen(f"dramatiq:{queue}") == 0
    assert worker.is_running()


def test_it_ends_in_order_when_it_is_told_to(worker: Child) -> None:
    worker.terminate()

    wait_until(lambda: not worker.is_running(), what="the worker has ended")

    assert worker.how_it_ended() == "exit status 0"
    assert '"event": "stopped"' in worker.log.read_text()
