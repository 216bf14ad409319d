"""The store is away: nobody waits long, nobody is told a lie, and all goes on by itself once it is back."""

import hashlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.event_stream import Client
from tests.patience import wait_until
from tests.system import System

CHAT = "/api/async/chat"

#: An outage that is felt: longer than any time-out towards the store, shorter than a lease.
OUTAGE_SECONDS = 3.0


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A relay of this module, whose store goes away and comes back."""
    running = System(tmp_path_factory.mktemp("store_away"))
    running.start()
    yield running
    running.stop()


@contextmanager
def frozen(relay: System) -> Iterator[None]:
    """The store takes connections and answers nothing."""
    os.kill(relay.store.child.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(relay.store.child.pid, signal.SIGCONT)


@contextmanager
def killed(relay: System) -> Iterator[None]:
    """The store has crashed, and comes back with what it had written."""
    relay.store.kill()
    try:
        yield
    finally:
        relay.store.start()


AWAY = {"frozen": frozen, "killed": killed}

either_way = pytest.mark.parametrize("away", AWAY.values(), ids=AWAY.keys())
Away = Callable[[System], Any]


def let_pass(seconds: float) -> None:
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 1)


def ended(relay: System, message: str = "Hello.", model: str = "demo/rate=0") -> dict[str, Any]:
    accepted = relay.post(message, model=model)
    assert relay.read_to_end(accepted["task_id"]).end is not None
    return accepted


def recover(relay: System) -> None:
    """Return once an answer can be had again."""

    def answers() -> bool:
        response = relay.http.post(CHAT, json={"message": "Back?", "model": "demo/echo,rate=0"})
        return response.status_code == 202 and relay.read_to_end(response.json()["task_id"]).content == "Back?"

    wait_until(answers, what="an answer")


@either_way
def test_the_api_says_so_at_once_and_when_to_come_again(relay: System, away: Away) -> None:
    accepted = ended(relay)
    task = accepted["urls"]["self"]
    requests = [
        ("POST", CHAT, {"message": "Hello."}),
        ("POST", CHAT, {"message": "Hello.", "session_id": accepted["session_id"]}),
        ("POST", f"{CHAT}/stream", {"message": "Hello."}),
        ("GET", task, None),
        ("GET", f"{task}/events", None),
        ("POST", f"{task}/cancel", None),
        ("GET", f"/api/async/sessions/{accepted['session_id']}", None),
    ]

    def send(request: tuple[str, str, Any]) -> tuple[httpx.Response, float]:
        method, path, body = request
        began = time.monotonic()
        response = relay.http.request(method, path, json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
        return response, time.monotonic() - began

    with away(relay), ThreadPoolExecutor(len(requests)) as pool:
        together = list(pool.map(send, requests))
        again = list(pool.map(send, requests))
    recover(relay)

    for response, seconds in together + again:
        assert response.status_code == 503, response.url
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["code"] == "store_unavailable"
        assert response.json()["status"] == 503
        assert int(response.headers["retry-after"]) >= 1
        assert "redis" not in response.text.lower()
        assert seconds < 2


@either_way
def test_what_needs_no_store_is_served_all_the_same(relay: System, away: Away) -> None:
    with away(relay):
        models = relay.http.get("/api/async/models")
        page = relay.http.get("/")
        bad = relay.http.post(CHAT, json={"message": ""})
    recover(relay)

    assert (models.status_code, page.status_code, bad.status_code) == (200, 200, 422)


@either_way
def test_the_gateway_asks_its_clients_to_come_again(relay: System, away: Away) -> None:
    accepted = ended(relay)
    url = f"http://127.0.0.1:{relay.gateway_port}{accepted['urls']['events']}"
    headers = {"Authorization": f"Bearer {accepted['events_token']}"}

    with away(relay):
        began = time.monotonic()
        response = relay.http.get(url, headers=headers)
        seconds = time.monotonic() - began
    recover(relay)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.startswith("retry: ")
    assert "event:" not in response.text
    assert seconds < 2


@either_way
def test_all_is_as_before_within_five_seconds(relay: System, away: Away) -> None:
    accepted = ended(relay, "Remember me.", "demo/echo,rate=0")
    with away(relay):
        refused = relay.http.post(CHAT, json={"message": "Now?"})

    began = time.monotonic()
    recover(relay)
    seconds = time.monotonic() - began

    assert refused.status_code == 503
    assert seconds < 5
    assert relay.task(accepted["task_id"])["content"] == "Remember me."
    session = relay.http.get(f"/api/async/sessions/{accepted['session_id']}").json()
    assert [message["content"] for message in session["messages"]] == ["Remember me."] * 2


@either_way
def test_a_session_that_was_refused_a_message_takes_it_soon_after(relay: System, away: Away) -> None:
    accepted = ended(relay, "First.", "demo/echo,rate=0")
    body = {"message": "Second.", "model": "demo/echo,rate=0", "session_id": accepted["session_id"]}
    with away(relay):
        refused = relay.http.post(CHAT, json=body)

    responses = []
    wait_until(lambda: responses.append(relay.http.post(CHAT, json=body)) or responses[-1].status_code == 202, 8)

    assert refused.status_code == 503
    assert {response.status_code for response in responses} <= {202, 409, 503}
    assert relay.read_to_end(responses[-1].json()["task_id"]).content == "Second."
    session = relay.http.get(f"/api/async/sessions/{accepted['session_id']}").json()
    assert [message["content"] for message in session["messages"]] == ["First."] * 2 + ["Second."] * 2


@either_way
def test_an_answer_that_runs_through_an_outage_ends_with_the_right_text(relay: System, away: Away) -> None:
    expected = relay.task(ended(relay, "Go on.", "demo/rate=0,tokens=150")["task_id"])["content"]
    accepted = relay.post("Go on.", model="demo/rate=30,tokens=150")
    client = Client()
    reading = threading.Thread(target=relay.read_to_end, args=(accepted["task_id"], client))
    reading.start()
    wait_until(lambda: client.types.count("delta") >= 20, what="twenty pieces")

    with away(relay):
        let_pass(OUTAGE_SECONDS)
    back_at = time.monotonic()
    wait_until(lambda: client.end is not None, what="the end")
    seconds = time.monotonic() - back_at
    reading.join()

    assert client.end is not None
    assert client.end.type == "completed", client.end.data
    assert client.content == client.end.data["content"] == expected
    assert client.end.data["sha256"] == hashlib.sha256(expected.encode()).hexdigest()
    assert client.repeated == 0
    assert relay.task(accepted["task_id"])["content"] == expected
    assert seconds < 12


@either_way
def test_tasks_that_begin_as_the_store_goes_away_end_well(relay: System, away: Away) -> None:
    tasks: list[dict[str, Any]] = []

    def post_until_refused(n: int) -> None:
        for _ in range(1000):
            response = relay.http.post(CHAT, json={"message": f"Hello {n}.", "model": "demo/rate=0,tokens=20"})
            if response.status_code != 202:
                return
            tasks.append(response.json())

    with ThreadPoolExecutor(4) as pool:
        posting = [pool.submit(post_until_refused, n) for n in range(4)]
        wait_until(lambda: len(tasks) >= 20, what="twenty tasks")
        with away(relay):
            for future in posting:
                future.result(timeout=10)
    recover(relay)

    # everysec: the last second of writes may go with a crash
    kept = [task for task in tasks if away is frozen or relay.http.get(task["urls"]["self"]).status_code == 200]
    assert kept
    for accepted in kept:
        wait_until(lambda task=accepted: relay.task(task["task_id"])["status"] not in ("queued", "running"), 30)
        task = relay.task(accepted["task_id"])
        assert task["status"] == "completed", task


def test_a_store_that_refuses_one_read_for_a_moment_does_not_fail_an_answer(relay: System) -> None:
    with relay.store_client() as store:
        store.execute_command("ACL", "SETUSER", "default", "-lrange")
        try:
            accepted = relay.post("Hello.", model="demo/echo,rate=0")
            let_pass(1.0)
        finally:
            store.execute_command("ACL", "SETUSER", "default", "+lrange")

    client = relay.read_to_end(accepted["task_id"])

    assert client.end is not None
    assert client.end.type == "completed", client.end.data
    assert client.content == "Hello."


@either_way
def test_a_stop_that_met_an_outage_works_when_it_is_tried_again(relay: System, away: Away) -> None:
    accepted = relay.post("Think.", model="demo/hang")
    wait_until(lambda: relay.model_stats()["open_connections"] == 1, what="the model was asked")
    with away(relay):
        refused = relay.http.post(accepted["urls"]["cancel"])

    answers: list[httpx.Response] = []
    wait_until(lambda: answers.append(relay.http.post(accepted["urls"]["cancel"])) or answers[-1].status_code == 200, 8)

    assert refused.status_code == 503
    assert answers[-1].json()["status"] == "cancelled"
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 5, "the provider's connection is closed")
