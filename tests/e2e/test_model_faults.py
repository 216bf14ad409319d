"""Whatever a model does, its task ends once, with a stable code and the text so far; Stop stops it at any moment."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.contracts import keys
from tests.event_stream import TERMINAL, Client, SeenEvent
from tests.patience import wait_until
from tests.system import System

#: Limits of this relay, in seconds.
FIRST_TOKEN, IDLE, SOFT, HARD = 2.0, 1.0, 3.3, 8.0

#: The most text of an answer, in bytes.
MAX_ANSWER = 20_000

#: What the demo model says in its refusals, and what would show a library, an address or a file.
PROVIDERS_WORDS = (
    "demo model",
    "127.0.0.1",
    "litellm",
    "openai",
    "traceback",
    "exception",
    "error code",
    "http",
    ".py",
)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A relay with short limits and one worker."""
    settings = {
        "EKIDEN_FIRST_TOKEN_SECONDS": str(FIRST_TOKEN),
        "EKIDEN_IDLE_SECONDS": str(IDLE),
        "EKIDEN_SOFT_LIMIT_SECONDS": str(SOFT),
        "EKIDEN_HARD_LIMIT_SECONDS": str(HARD),
        "EKIDEN_MAX_ANSWER_BYTES": str(MAX_ANSWER),
    }
    running = System(tmp_path_factory.mktemp("model_faults"), settings=settings)
    running.start()
    yield running
    running.stop()


def answer(relay: System, model: str, message: str = "Hello.") -> tuple[dict[str, Any], Client, dict[str, Any]]:
    """The 202, all that a client saw, and the task at its end."""
    accepted = relay.post(message, model=model)
    client = relay.read_to_end(accepted["task_id"])
    return accepted, client, relay.task(accepted["task_id"])


def terminal_entries(relay: System, accepted: dict[str, Any]) -> list[str]:
    with relay.store_client() as store:
        entries = store.xrange(keys.log(accepted["task_id"]))
    return [fields[b"t"].decode() for _, fields in entries if fields[b"t"].decode() in TERMINAL]


def assert_failed(relay: System, model: str, code: str) -> tuple[Client, dict[str, Any]]:
    accepted, client, task = answer(relay, model)
    assert client.end is not None
    assert client.end.type == "failed"
    assert terminal_entries(relay, accepted) == ["failed"]
    problem = client.end.data["problem"]
    assert problem["code"] == code
    assert problem["type"] == f"urn:ekiden:problem:{code}"
    assert client.end.data["partial"] == client.content == task["content"]
    assert task["status"] == "failed"
    assert task["problem"] == problem
    told = str({**problem, "type": ""}).lower()
    assert not [word for word in PROVIDERS_WORDS if word in told], problem
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 1, "the provider's connection is closed")
    return client, problem


@pytest.mark.parametrize(
    ("model", "code", "retryable"),
    [
        ("demo/status=400", "provider_refused_request", False),
        ("demo/status=401", "provider_refused_key", False),
        ("demo/status=403", "provider_refused_key", False),
        ("demo/status=404", "model_not_found", False),
        ("demo/status=422", "provider_refused_request", False),
        ("demo/status=429", "provider_over_quota", True),
        ("demo/status=500", "provider_unavailable", True),
        ("demo/status=502", "provider_unavailable", True),
        ("demo/status=503", "provider_unavailable", True),
        ("demo/status=529", "provider_unavailable", True),
        ("demo/no-such-thing", "model_not_found", False),
    ],
)
def test_a_refusal_fails_the_task_with_its_own_code(relay: System, model: str, code: str, retryable: bool) -> None:
    client, problem = assert_failed(relay, model, code)

    assert client.types == ["created", "started", "failed"]
    assert problem["retryable"] is retryable


def test_the_providers_wish_to_wait_is_passed_on(relay: System) -> None:
    _, problem = assert_failed(relay, "demo/status=429", "provider_over_quota")

    assert problem["retry_after_seconds"] == 7


@pytest.mark.parametrize("model", ["demo/silent", "demo/hang", "demo/first=30"])
def test_a_model_that_never_begins_is_given_up(relay: System, model: str) -> None:
    began = time.monotonic()

    client, problem = assert_failed(relay, model, "provider_silent")

    assert client.content == ""
    assert problem["retryable"] is True
    assert FIRST_TOKEN * 0.9 < time.monotonic() - began < FIRST_TOKEN + 2


def test_a_model_that_falls_silent_is_given_up_and_its_text_kept(relay: System) -> None:
    client, _ = assert_failed(relay, "demo/stall=5,rate=100", "provider_silent")

    assert client.content == "You wrote “Hello.”. I am"


@pytest.mark.parametrize("fault", ["cut", "noend", "error"])
@pytest.mark.parametrize("rate", [0, 100])
def test_an_answer_that_breaks_off_is_no_whole_answer(relay: System, fault: str, rate: int) -> None:
    client, problem = assert_failed(relay, f"demo/{fault}=10,rate={rate}", "provider_cut")

    assert client.content == "You wrote “Hello.”. I am Ekiden's demo model and no"
    assert problem["retryable"] is True


@pytest.mark.parametrize("fault", ["cut", "noend", "error"])
def test_an_answer_that_breaks_off_before_its_first_word_is_no_answer(relay: System, fault: str) -> None:
    accepted, client, _ = answer(relay, f"demo/{fault}=0")

    assert client.end is not None
    assert client.end.type == "failed"
    assert client.end.data["problem"]["code"] in ("provider_cut", "provider_unavailable")
    assert terminal_entries(relay, accepted) == ["failed"]


def test_a_model_server_that_is_down_fails_the_task(relay: System) -> None:
    relay.demo.kill()
    try:
        accepted, client, _ = answer(relay, "demo")
    finally:
        relay.restart(relay.demo)

    assert client.end is not None
    assert client.end.data["problem"]["code"] == "provider_unavailable"
    assert terminal_entries(relay, accepted) == ["failed"]
    assert answer(relay, "demo/rate=0")[2]["status"] == "completed"


def test_a_model_server_that_dies_amid_its_answer_fails_the_task_and_keeps_the_text(relay: System) -> None:
    accepted = relay.post("Hello.", model="demo/rate=20,tokens=60")
    client = Client()
    with relay.events(accepted["task_id"]) as events:
        take_until(events, client, deltas=5)
        relay.demo.kill()
        try:
            for event in events:
                client.take(event)
        finally:
            relay.restart(relay.demo)

    assert client.end is not None
    assert client.end.type == "failed"
    assert client.end.data["problem"]["code"] == "provider_cut"
    assert client.end.data["partial"] == client.content
    assert len(client.content.split()) >= 5


def test_the_soft_limit_ends_an_answer_cleanly(relay: System) -> None:
    with ThreadPoolExecutor(40) as pool:
        answers = list(pool.map(lambda n: answer(relay, "demo/rate=5,tokens=500", f"Hello {n}."), range(40)))

    for _, client, task in answers:
        assert client.end is not None
        assert client.end.type == "completed", client.end.data
        assert client.end.data["finish_reason"] == task["finish_reason"] == "deadline"
        assert client.end.data["content"] == client.content == task["content"]
        assert 5 <= len(client.content.split()) <= 5 * (SOFT + 2)
        assert SOFT * 900 < task["timings"]["total_ms"] < (SOFT + 2) * 1000
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 1, "the providers' connections are closed")


def test_a_model_that_does_not_end_is_ended_by_the_limit_of_bytes(relay: System) -> None:
    accepted, client, task = answer(relay, "demo/rate=0,tokens=20000")

    assert client.end is not None
    assert client.end.type == "completed"
    assert client.end.data["finish_reason"] == "length"
    assert client.end.data["content"] == client.content == task["content"]
    assert MAX_ANSWER <= len(client.content.encode()) < MAX_ANSWER + 4096
    assert terminal_entries(relay, accepted) == ["completed"]
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 1, "the provider's connection is closed")


def test_what_a_model_thinks_is_told_apart_from_what_it_says(relay: System) -> None:
    _, client, task = answer(relay, "demo/reasoning,rate=100,tokens=30")

    assert client.reasoning.startswith("The user writes “Hello.”.")
    assert client.content.startswith("You wrote “Hello.”.")
    assert client.types.index("reasoning") < client.types.index("delta")
    assert "reasoning" not in client.types[client.types.index("delta") :]
    assert task["reasoning"] == client.reasoning
    assert task["content"] == client.content


def test_the_tokens_a_provider_counts_are_passed_on(relay: System) -> None:
    _, client, task = answer(relay, "demo/rate=0,tokens=50")

    assert client.end is not None
    assert client.end.data["usage"] == task["usage"]
    assert task["usage"]["output_tokens"] == 50
    assert task["usage"]["estimated"] is False


# Stop


def cancel(relay: System, accepted: dict[str, Any]) -> dict[str, Any]:
    response = relay.http.post(accepted["urls"]["cancel"])
    assert response.status_code == 200, response.text
    task: dict[str, Any] = response.json()
    return task


def take_until(events: Iterator[SeenEvent], client: Client, *, deltas: int) -> None:
    for event in events:
        client.take(event)
        if client.types.count("delta") == deltas:
            return
    raise AssertionError("the answer ended early")


def assert_cancelled(relay: System, accepted: dict[str, Any], task: dict[str, Any], client: Client) -> None:
    assert task["status"] == "cancelled"
    assert terminal_entries(relay, accepted) == ["cancelled"]
    assert client.end is not None
    assert client.end.type == "cancelled"
    assert client.end.data["by"] == "user"
    assert client.end.data["partial"] == client.content == task["content"]


def test_a_task_that_waits_for_a_worker_is_cancelled_and_never_begun(relay: System) -> None:
    asked = relay.model_stats()["requests"]
    os.kill(relay.workers[0].pid, signal.SIGSTOP)
    try:
        accepted = relay.post("Hello.", model="demo/rate=0")
        task = cancel(relay, accepted)
        client = relay.read_to_end(accepted["task_id"])
    finally:
        os.kill(relay.workers[0].pid, signal.SIGCONT)
    other = answer(relay, "demo/rate=0")[2]

    assert_cancelled(relay, accepted, task, client)
    assert client.types == ["created", "cancelled"]
    assert other["status"] == "completed"
    assert relay.model_stats()["requests"] == asked + 1


@pytest.mark.parametrize("model", ["demo/hang", "demo/silent", "demo/first=30"])
def test_a_task_is_cancelled_before_its_first_word(relay: System, model: str) -> None:
    accepted = relay.post("Hello.", model=model)
    wait_until(lambda: relay.model_stats()["open_connections"] == 1, what="the model was asked")

    task = cancel(relay, accepted)

    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 1, "the provider's connection is closed")
    assert_cancelled(relay, accepted, task, relay.read_to_end(accepted["task_id"]))


def test_a_task_is_cancelled_in_the_moment_it_begins(relay: System) -> None:
    for n in range(20):
        accepted = relay.post(f"Hello {n}.", model="demo/rate=50")
        if n % 2:
            wait_until(lambda task=accepted: relay.task(task["task_id"])["status"] == "running")

        task = cancel(relay, accepted)

        assert_cancelled(relay, accepted, task, relay.read_to_end(accepted["task_id"]))
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 2, "the providers' connections are closed")


def test_a_cancel_amid_the_text_is_prompt_and_keeps_what_was_said(relay: System) -> None:
    seconds = []
    for n in range(10):
        accepted = relay.post(f"Hello {n}.", model="demo/rate=100,tokens=500")
        client = Client()
        with relay.events(accepted["task_id"]) as events:
            take_until(events, client, deltas=5)
            began = time.monotonic()
            task = cancel(relay, accepted)
            for event in events:
                client.take(event)
            seconds.append(time.monotonic() - began)

        assert_cancelled(relay, accepted, task, client)
        assert client.content
    assert max(seconds) < 1
    assert sorted(seconds)[len(seconds) // 2] < 0.25
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 1, "the providers' connections are closed")


def test_a_cancel_of_an_answer_at_full_speed_keeps_what_was_said(relay: System) -> None:
    accepted = relay.post("Hello.", model="demo/rate=2000,tokens=2500")
    client = Client()
    with relay.events(accepted["task_id"]) as events:
        take_until(events, client, deltas=20)
        task = cancel(relay, accepted)
        for event in events:
            client.take(event)

    assert_cancelled(relay, accepted, task, client)


def test_a_cancel_closes_the_connection_to_the_provider(relay: System) -> None:
    before = relay.model_stats()["cancelled"]
    accepted = relay.post("Hello.", model="demo/rate=20,tokens=500")
    with relay.events(accepted["task_id"]) as events:
        take_until(events, Client(), deltas=3)

    cancel(relay, accepted)

    wait_until(lambda: relay.model_stats()["cancelled"] == before + 1, 1, "the model has noticed")
    assert relay.model_stats()["open_connections"] == 0


def test_a_second_cancel_changes_nothing(relay: System) -> None:
    accepted = relay.post("Hello.", model="demo/rate=50,tokens=500")
    with relay.events(accepted["task_id"]) as events:
        take_until(events, Client(), deltas=3)

    first = cancel(relay, accepted)
    with ThreadPoolExecutor(8) as pool:
        others = list(pool.map(lambda _: cancel(relay, accepted), range(8)))

    assert all(other == first for other in others)
    assert terminal_entries(relay, accepted) == ["cancelled"]


def test_many_cancels_at_once_make_one_end(relay: System) -> None:
    accepted = relay.post("Hello.", model="demo/rate=50,tokens=500")
    with relay.events(accepted["task_id"]) as events:
        take_until(events, Client(), deltas=3)

    with ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: cancel(relay, accepted), range(8)))

    assert {task["status"] for task in tasks} == {"cancelled"}
    assert len({task["content"] for task in tasks}) == 1
    assert terminal_entries(relay, accepted) == ["cancelled"]


@pytest.mark.parametrize(("model", "status"), [("demo/rate=0", "completed"), ("demo/status=500", "failed")])
def test_a_cancel_after_the_end_changes_nothing(relay: System, model: str, status: str) -> None:
    accepted, _, before = answer(relay, model)

    after = cancel(relay, accepted)

    assert after == before
    assert after["status"] == status
    assert terminal_entries(relay, accepted) == [status]


def test_a_cancel_and_the_end_in_the_same_moment_make_one_end(relay: System) -> None:
    ends = []
    for n in range(12):
        accepted = relay.post(f"Hello {n}.", model="demo/echo,rate=0,first=0")
        deadline = time.monotonic() + 0.004 * n
        wait_until(lambda until=deadline: time.monotonic() >= until)

        task = cancel(relay, accepted)

        client = relay.read_to_end(accepted["task_id"])
        assert client.end is not None
        assert terminal_entries(relay, accepted) == [client.end.type] == [task["status"]]
        ends.append(task["status"])
    assert set(ends) <= {"completed", "cancelled"}


def test_a_cancel_tells_what_was_used(relay: System) -> None:
    accepted = relay.post("Hello.", model="demo/rate=50,tokens=500")
    with relay.events(accepted["task_id"]) as events:
        take_until(events, Client(), deltas=3)

    task = cancel(relay, accepted)

    assert task["status"] == "cancelled"
    assert task["usage"]["output_tokens"] > 0
