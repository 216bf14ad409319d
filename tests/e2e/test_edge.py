"""Behind the edge everything is one origin, and a POST is answered by its stream in one round trip."""

import itertools
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.edge import BEHIND_THE_EDGE, Edge, edge_before
from tests.event_stream import Client, read_events
from tests.patience import wait_until
from tests.system import System

#: An event that left the worker is at the client within this time; a buffer would keep it for the whole answer.
AT_ONCE_SECONDS = 0.5


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A relay that hands over to the gateway through its edge."""
    running = System(tmp_path_factory.mktemp("relay"), settings=BEHIND_THE_EDGE)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def edge(relay: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """The edge before it."""
    with edge_before(relay, tmp_path_factory.mktemp("edge")) as running:
        yield running


def ask(edge: Edge, message: str, model: str) -> dict[str, Any]:
    """POST a message that is to be accepted; the 202's body."""
    response = edge.http.post("/api/async/chat", json={"message": message, "model": model})
    assert response.status_code == 202, response.text
    accepted: dict[str, Any] = response.json()
    return accepted


def said(relay: System, task_id: str) -> str:
    """The text that the store has of a task."""
    text: str = relay.task(task_id)["content"]
    return text


def test_a_post_is_answered_by_its_stream_in_one_round_trip(edge: Edge, relay: System) -> None:
    client, deltas_at = Client(), []

    body = {"message": "こんにちは", "model": "demo/rate=20,tokens=20"}
    with edge.http.stream("POST", "/api/async/chat/stream", json=body) as response:
        for event in read_events(response.iter_raw()):
            client.take(event)
            if event.type == "delta":
                deltas_at.append(time.monotonic())

    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert client.end is not None
    assert client.end.type == "completed"
    assert client.types[0] == "created"
    assert client.content == client.end.data["content"] == said(relay, response.headers["x-task-id"])
    assert re.fullmatch("sess_[0-9a-f]{32}", response.headers["x-session-id"])
    assert response.headers["x-request-id"]
    gaps = [after - before for before, after in itertools.pairwise(deltas_at)]
    assert max(gaps) < AT_ONCE_SECONDS


def test_a_post_that_is_repeated_is_answered_by_the_same_stream(edge: Edge) -> None:
    body, key = {"message": "Hello.", "model": "demo/echo,rate=0"}, {"Idempotency-Key": "the-same-key"}

    first = edge.http.post("/api/async/chat/stream", json=body, headers=key)
    second = edge.http.post("/api/async/chat/stream", json=body, headers=key)

    assert first.headers["x-task-id"] == second.headers["x-task-id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert [event.id for event in read_events([first.content])] == [event.id for event in read_events([second.content])]


def test_a_stream_that_is_dropped_goes_on_from_its_last_id(edge: Edge, relay: System) -> None:
    task_id = ask(edge, "Go on.", "demo/rate=40,tokens=60")["task_id"]
    client = Client()
    with edge.events(task_id) as events:
        for event in events:
            client.take(event)
            if client.types.count("delta") >= 10:
                break

    edge.read_to_end(task_id, client)

    assert client.end is not None
    assert client.content == said(relay, task_id)
    assert client.repeated == 0
    assert client.types.count("created") == 1


def test_the_query_carries_a_cursor_as_the_header_does(edge: Edge) -> None:
    task_id = ask(edge, "Hello.", "demo/echo,rate=0")["task_id"]
    ids = [event.id for event in read_events([edge.http.get(f"/api/async/tasks/{task_id}/events").content])]
    cursor = ids[1]

    rest = edge.http.get(f"/api/async/tasks/{task_id}/events", params={"last_event_id": cursor})
    end = edge.http.get(f"/api/async/tasks/{task_id}/events", headers={"Last-Event-ID": str(ids[-1])})

    assert [event.id for event in read_events([rest.content])] == ids[2:]
    assert end.status_code == 204


def test_stop_passes_the_edge(edge: Edge, relay: System) -> None:
    task_id = ask(edge, "Go on.", "demo/rate=20,tokens=500")["task_id"]
    client = Client()
    with edge.events(task_id) as events:
        for event in events:
            client.take(event)
            if client.types.count("delta") == 5:
                task = edge.http.post(f"/api/async/tasks/{task_id}/cancel").json()

    assert task["status"] == "cancelled"
    assert client.end is not None
    assert client.end.type == "cancelled"
    assert client.content == client.end.data["partial"] == task["content"]
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, what="the model is left alone")


def test_what_is_permanent_stays_an_error(edge: Edge) -> None:
    unknown = edge.http.get("/api/async/tasks/task_000000000000000000000000000000000/events")
    inside = edge.http.get("/_events/task_000000000000000000000000000000000")
    empty = edge.http.post("/api/async/chat/stream", json={"message": ""})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")
    assert (inside.status_code, inside.headers["server"]) == (404, "nginx")
    assert (empty.status_code, empty.json()["code"]) == (422, "invalid_field")


def test_a_large_body_is_refused_by_the_api_and_a_huge_one_by_the_edge(edge: Edge) -> None:
    large = edge.http.post("/api/async/chat", json={"message": "x" * 500_000})
    huge = edge.http.post("/api/async/chat", json={"message": "x" * 2_000_000})

    assert [(answer.status_code, answer.json()["code"]) for answer in (large, huge)] == [(413, "body_too_large")] * 2
    assert huge.headers["content-type"] == "application/problem+json"


def test_tokens_are_not_logged(edge: Edge) -> None:
    accepted = ask(edge, "Hello.", "demo/echo,rate=0")
    token = accepted["events_token"]

    edge.http.get(accepted["urls"]["events"], params={"token": token})

    wait_until(lambda: accepted["urls"]["events"] in edge.log.read_text(), what="a line of the request")
    assert token not in edge.log.read_text()
    assert all(json.loads(line)["event"] == "request" for line in edge.log.read_text().splitlines())


def test_no_gateway_is_a_stream_that_says_when_to_come_again(edge: Edge, relay: System) -> None:
    task_id = ask(edge, "Hello.", "demo/echo,rate=0")["task_id"]
    relay.gateway.kill()
    try:
        watching = edge.http.get(f"/api/async/tasks/{task_id}/events")
        posted = edge.http.post("/api/async/chat/stream", json={"message": "Hi.", "model": "demo/echo,rate=0"})
    finally:
        relay.restart(relay.gateway)

    for response in (watching, posted):
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert re.fullmatch(r"retry: [123][05]00\n: later\n\n", response.text)
    assert watching.headers["x-task-id"] == task_id
    assert edge.read_to_end(task_id).content == "Hello."
    assert edge.read_to_end(posted.headers["x-task-id"]).content == "Hi."


def test_no_api_is_a_problem_for_a_post_and_later_for_a_stream(edge: Edge, relay: System) -> None:
    task_id = ask(edge, "Hello.", "demo/echo,rate=0")["task_id"]
    relay.api.kill()
    try:
        post = edge.http.post("/api/async/chat/stream", json={"message": "Hi."})
        stream = edge.http.get(f"/api/async/tasks/{task_id}/events")
    finally:
        relay.restart(relay.api)

    assert (post.status_code, post.json()["code"]) == (503, "unavailable")
    assert post.headers["retry-after"] == "2"
    assert (stream.status_code, stream.text[:7]) == (200, "retry: ")


def test_a_gateway_that_is_killed_under_its_streams_loses_nothing(edge: Edge, relay: System) -> None:
    task_id = ask(edge, "Go on.", "demo/rate=30,tokens=90")["task_id"]
    client = Client()
    reader = threading.Thread(target=edge.read_to_end, args=(task_id, client))
    reader.start()
    wait_until(lambda: client.types.count("delta") >= 10, what="ten pieces")

    relay.gateway.kill()
    relay.restart(relay.gateway)
    reader.join(timeout=30)

    assert client.end is not None
    assert client.content == said(relay, task_id)
    assert client.repeated == 0
