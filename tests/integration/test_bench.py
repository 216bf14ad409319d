"""The bench measures what it says: the old design, as real processes, delivers whole answers and a first token.

Only where requirements/bench.txt is installed, which `make bench` does. `make test` and CI install nothing of it and
skip this module; what can be tested without is in tests/unit/test_bench.py.
"""

import asyncio
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from bench.answers import Ask, Batch, fault_of
from bench.expectation import expected_text
from bench.scenarios import MESSAGE
from bench.subjects import OldDesign
from demo.ports import free_block
from demo.processes import Child, stop
from demo.readiness import answers_ok
from tests.patience import wait_until

pytestmark = pytest.mark.skipif(
    not all(find_spec(module) for module in ("celery", "flask", "psutil")),
    reason="only with requirements/bench.txt, which `make bench` installs",
)

#: Five tokens, the first after 0.2 s and the last 0.2 s later.
MODEL = "demo/first=0.2,rate=20,tokens=5"


@pytest.fixture(scope="module")
def model_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A demo model of this module's own."""
    port = free_block(1)
    command = [sys.executable, "-m", "demo.model", "--port", str(port)]
    child = Child("demo_model", command, os.environ, tmp_path_factory.mktemp("model") / "demo_model.log")
    child.start()
    wait_until(lambda: answers_ok(port, "/healthz"))
    yield f"http://127.0.0.1:{port}/v1"
    stop([child])


@pytest.fixture(scope="module")
def old_design(model_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldDesign]:
    """The old design, ready to be asked."""
    subject = OldDesign(tmp_path_factory.mktemp("old"), model_url)
    try:
        subject.start()
        yield subject
    finally:
        subject.stop()


def test_the_old_design_answers_as_many_as_ask_with_every_byte(old_design: OldDesign, model_url: str) -> None:
    expected = expected_text(model_url, MODEL, MESSAGE)

    batch = ask(old_design, at_once=6)

    assert [fault_of(answer, expected) for answer in batch.answers] == [""] * 6


def test_the_first_token_is_measured_when_it_comes_and_not_at_the_end(old_design: OldDesign) -> None:
    [answer] = ask(old_design, at_once=1).answers

    assert answer.first_seconds >= 0.2
    assert answer.total_seconds - answer.first_seconds >= 0.15


def test_a_model_that_refuses_is_a_fault_and_not_a_figure(old_design: OldDesign) -> None:
    [answer] = ask(old_design, at_once=1, model="demo/status=500,first=0").answers

    assert fault_of(answer, "") == "failed"


def test_memory_counts_the_processes_that_a_process_has_started(old_design: OldDesign) -> None:
    from bench.usage import memory_bytes  # psutil is of requirements/bench.txt too

    held = memory_bytes(old_design.children["celery"].pid)

    assert held > 200_000_000  # litellm alone is that, once


def ask(subject: OldDesign, *, at_once: int, model: str = MODEL) -> Batch:
    """Ask a subject, as the bench does."""

    async def asking() -> Batch:
        try:
            return await subject.ask(Ask(model=model, message=MESSAGE, at_once=at_once))
        finally:
            subject.disconnect()

    return asyncio.run(asking())
