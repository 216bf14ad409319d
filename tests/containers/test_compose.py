"""`docker compose up` runs the relay: what a person sees, and that nothing is lost when containers go."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.containers.stack import PROJECT, Stack
from tests.event_stream import Client, read_events
from tests.patience import wait_until

#: The first test of a run waits for the images to be built.
pytestmark = pytest.mark.timeout(1200)

SERVICES = ["api", "llm_worker", "feedback_worker", "sse_gateway"]


@contextmanager
def listening(stack: Stack, task_id: str) -> Iterator[Client]:
    """A client that reads a task to its end on a thread of its own; the block's end waits for that."""
    client = Client()
    reader = threading.Thread(target=stack.read_to_end, args=(task_id, client))
    reader.start()
    try:
        wait_until(lambda: client.types.count("delta") >= 10, what="ten pieces of the answer")
        yield client
    finally:
        reader.join(timeout=60)


def said(stack: Stack, message: str, model: str) -> str:
    """What the demo model says to a message: always the same."""
    return stack.read_to_end(stack.ask(message, model)["task_id"]).content


def assert_complete(client: Client, expected: str) -> None:
    assert client.end is not None
    assert client.end.type == "completed", client.end.data
    assert client.content == client.end.data["content"] == expected
    assert client.repeated == 0


def test_the_page_is_shown(stack: Stack) -> None:
    page = stack.http.get("/")

    assert page.status_code == 200
    assert "<title>" in page.text
    assert "connect-src 'self';" in page.headers["content-security-policy"]


def test_an_answer_streams_through_nginx_in_one_round_trip(stack: Stack) -> None:
    client = Client()

    with stack.http.stream("POST", "/api/async/chat/stream", json={"message": "こんにちは"}) as response:
        for event in read_events(response.iter_raw()):
            client.take(event)

    assert response.status_code == 200
    assert response.headers["server"] == "nginx"
    assert client.types[:2] == ["created", "started"]
    assert client.types.count("delta") > 5
    assert_complete(client, stack.task(response.headers["x-task-id"])["content"])


def test_a_dropped_stream_goes_on_from_its_last_id(stack: Stack) -> None:
    task_id = stack.ask("Go on.", "demo/rate=40,tokens=60")["task_id"]
    client = Client()
    with stack.events(task_id) as events:
        for event in events:
            client.take(event)
            if client.types.count("delta") == 10:
                break

    stack.read_to_end(task_id, client)

    assert_complete(client, stack.task(task_id)["content"])


def test_stop_stops(stack: Stack) -> None:
    task_id = stack.ask("Go on.", "demo/rate=20,tokens=500")["task_id"]

    with listening(stack, task_id) as client:
        task = stack.http.post(f"/api/async/tasks/{task_id}/cancel").json()

    assert task["status"] == "cancelled"
    assert client.end is not None
    assert client.end.type == "cancelled"
    assert client.content == client.end.data["partial"] == task["content"] != ""


def test_the_answer_of_a_worker_that_is_killed_goes_on(stack: Stack) -> None:
    expected = said(stack, "Go on.", "demo/rate=0,tokens=200")
    task_id = stack.ask("Go on.", "demo/rate=20,tokens=200")["task_id"]

    with listening(stack, task_id) as client:
        stack.kill("llm_worker")
        stack.compose("up", "--detach", "--wait", "llm_worker")

    assert_complete(client, expected)
    assert client.types.count("started") == 2


def test_an_answer_goes_on_while_the_gateway_is_restarted(stack: Stack) -> None:
    expected = said(stack, "Go on.", "demo/rate=0,tokens=200")
    task_id = stack.ask("Go on.", "demo/rate=20,tokens=200")["task_id"]

    with listening(stack, task_id) as client:
        stack.compose("restart", "sse_gateway")

    assert_complete(client, expected)
    assert client.types.count("started") == 1
    stack.await_healthy("sse_gateway")


def test_an_answer_goes_on_while_the_gateway_is_killed(stack: Stack) -> None:
    expected = said(stack, "Go on.", "demo/rate=0,tokens=200")
    task_id = stack.ask("Go on.", "demo/rate=20,tokens=200")["task_id"]

    with listening(stack, task_id) as client:
        stack.kill("sse_gateway")
        stack.compose("up", "--detach", "--wait", "sse_gateway")

    assert_complete(client, expected)


def test_what_redis_holds_survives_its_restart(stack: Stack) -> None:
    task_id = stack.ask("Hello.", "demo/echo,rate=0")["task_id"]
    stack.read_to_end(task_id)

    stack.compose("restart", "redis")
    stack.await_healthy("redis")

    wait_until(lambda: stack.http.get("/api/async/models").status_code == 200, what="the API")
    assert stack.task(task_id)["content"] == "Hello."
    assert said(stack, "And now?", "demo/echo,rate=0") == "And now?"


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_runs_as_nobody_and_is_healthy(stack: Stack, service: str) -> None:
    stack.await_healthy(service)

    assert stack.run_in(service, "id", "-u").strip() == "10001"


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_what_its_lock_names_and_nothing_else(stack: Stack, service: str) -> None:
    listed = stack.run_in(service, "/venv/bin/pip", "list", "--format=freeze", "--disable-pip-version-check")
    lock = (PROJECT / "requirements" / f"{service}.txt").read_text()

    installed = {_normal(line.partition("==")[0]) for line in listed.split()} - {"pip", "setuptools"}

    assert installed <= {
        _normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==", lock, re.MULTILINE)
    }
    assert ("litellm" in installed) == (service == "llm_worker")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
