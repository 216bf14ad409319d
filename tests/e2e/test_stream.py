"""A chat message becomes a stream."""

import hashlib

from tests.event_stream import Client, read_events
from tests.system import System


def test_the_curl_of_the_readme_shows_the_whole_way(system: System) -> None:
    with system.http.stream("POST", "/api/async/chat/stream", json={"message": "こんにちは"}) as response:
        events = list(read_events(response.iter_raw()))

    types = [event.type for event in events]
    assert types[:3] == ["created", "started", "delta"]
    assert types[-1] == "completed"
    assert all(event.id is not None for event in events)
    assert response.headers["x-task-id"] == events[0].data["task_id"]
    assert response.headers["x-session-id"] == events[0].data["session_id"]


def test_an_answer_is_its_deltas_and_their_digest(system: System) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=0,tokens=300")

    client = system.read_to_end(accepted["task_id"])

    assert client.end is not None
    assert client.end.type == "completed"
    assert client.content == client.end.data["content"]
    assert client.end.data["sha256"] == hashlib.sha256(client.content.encode()).hexdigest()
    assert client.end.data["usage"]["output_tokens"] == 300
    assert client.repeated == 0


def test_a_killed_workers_answer_is_completed_by_another(own_system: System) -> None:
    accepted = own_system.post("Count for me.", model="demo/rate=20,tokens=60")
    client = Client()
    with own_system.events(accepted["task_id"]) as events:
        for event in events:
            client.take(event)
            if client.types.count("delta") == 10:
                break

    for worker in own_system.workers:
        worker.kill()
    own_system.restart(own_system.workers[0])
    own_system.read_to_end(accepted["task_id"], client)

    assert client.end is not None
    assert client.end.type == "completed"
    assert client.content == client.end.data["content"]
    assert "reset" in client.types
    assert client.types.count("started") == 2


def test_a_page_of_the_apis_origin_may_read_from_the_gateway_and_no_other(system: System) -> None:
    task_id = system.post("Hello", model="demo/rate=0,tokens=3")["task_id"]
    url = f"http://127.0.0.1:{system.gateway_port}/api/async/tasks/{task_id}/events"
    page = f"http://127.0.0.1:{system.http_port}"
    asks = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}

    ours = system.http.options(url, headers={"Origin": page, **asks})
    theirs = system.http.options(url, headers={"Origin": "http://evil.example", **asks})

    assert ours.status_code == 204
    assert ours.headers.get_list("access-control-allow-origin") == [page]
    assert "last-event-id" in ours.headers["access-control-allow-headers"]
    assert "access-control-allow-origin" not in theirs.headers
