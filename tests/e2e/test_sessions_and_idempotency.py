"""A session remembers what was said, answers one message at a time, and a request sent twice makes one task."""

import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from shared.contracts import keys
from tests.event_stream import Client
from tests.patience import wait_until
from tests.system import System

CHAT = "/api/async/chat"


def ask(system: System, message: str, **fields: Any) -> str:
    """Ask and wait for the whole answer; the session's id."""
    accepted = system.post(message, **fields)
    assert system.read_to_end(accepted["task_id"]).end is not None
    session_id: str = accepted["session_id"]
    return session_id


def history(system: System, session_id: str) -> dict[str, Any]:
    response = system.http.get(f"/api/async/sessions/{session_id}")
    assert response.status_code == 200, response.text
    session: dict[str, Any] = response.json()
    return session


def cancel(system: System, task_id: str) -> dict[str, Any]:
    response = system.http.post(f"/api/async/tasks/{task_id}/cancel")
    assert response.status_code == 200, response.text
    task: dict[str, Any] = response.json()
    return task


def cancel_amid_its_text(system: System, accepted: dict[str, Any]) -> dict[str, Any]:
    client = Client()
    with system.events(accepted["task_id"]) as events:
        for event in events:
            client.take(event)
            if client.types.count("delta") == 5:
                return cancel(system, accepted["task_id"])
    raise AssertionError("the answer ended before it could be cancelled")


def test_the_model_is_sent_what_was_said_before(system: System) -> None:
    session_id = ask(system, "My cat is called Mikan.", model="demo/rate=0")
    ask(system, "It is orange.", model="demo/rate=0", session_id=session_id)

    accepted = system.post("What did I say first?", model="demo/rate=0", session_id=session_id)
    client = system.read_to_end(accepted["task_id"])

    assert "“My cat is called Mikan.”" in client.content
    assert "that I have seen: 5." in client.content


def test_sessions_do_not_hear_each_other(system: System) -> None:
    ask(system, "My cat is called Mikan.", model="demo/rate=0")

    accepted = system.post("What did I say first?", model="demo/rate=0")
    client = system.read_to_end(accepted["task_id"])

    assert "Mikan" not in client.content
    assert "that I have seen: 1." in client.content


def test_the_history_has_every_message_in_order(system: System) -> None:
    session_id = ask(system, "First words.", model="demo/echo,rate=0")
    ask(system, "Second words.", model="demo/echo,rate=0", session_id=session_id)

    session = history(system, session_id)

    said = [(message["role"], message["content"], message["status"]) for message in session["messages"]]
    assert said == [
        ("user", "First words.", "completed"),
        ("assistant", "First words.", "completed"),
        ("user", "Second words.", "completed"),
        ("assistant", "Second words.", "completed"),
    ]
    assert session["session_id"] == session_id
    assert session["active_task_id"] is None


def test_the_history_names_the_task_that_is_answering(system: System) -> None:
    accepted = system.post("Think.", model="demo/hang")

    session = history(system, accepted["session_id"])

    cancel(system, accepted["task_id"])
    assert session["active_task_id"] == accepted["task_id"]
    assert [message["role"] for message in session["messages"]] == ["user"]


def test_a_second_message_waits_its_turn_and_is_told_for_whom(system: System) -> None:
    accepted = system.post("Think.", model="demo/hang")

    response = system.http.post(CHAT, json={"message": "Well?", "session_id": accepted["session_id"]})

    cancel(system, accepted["task_id"])
    assert response.status_code == 409
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert (problem["code"], problem["status"]) == ("session_busy", 409)
    assert problem["task"] == {"task_id": accepted["task_id"], "urls": accepted["urls"]}
    messages = history(system, accepted["session_id"])["messages"]
    assert [message["content"] for message in messages if message["role"] == "user"] == ["Think."]


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled"])
def test_a_session_listens_again_once_its_answer_has_ended(system: System, how: str) -> None:
    model = {"completed": "demo/rate=0", "failed": "demo/status=500", "cancelled": "demo/hang"}[how]
    accepted = system.post("Hello.", model=model)
    if how == "cancelled":
        cancel(system, accepted["task_id"])
    first = system.read_to_end(accepted["task_id"])

    second = system.post("Hello again.", model="demo/echo,rate=0", session_id=accepted["session_id"])

    assert first.end is not None
    assert first.end.type == how
    assert system.read_to_end(second["task_id"]).content == "Hello again."


def test_what_was_said_before_a_cancel_stays_in_the_conversation(system: System) -> None:
    accepted = system.post("Tell me a story.", model="demo/rate=50,tokens=500")
    cancelled = cancel_amid_its_text(system, accepted)

    session_id = accepted["session_id"]
    second = system.post("What did I say first?", model="demo/rate=0", session_id=session_id)
    client = system.read_to_end(second["task_id"])

    messages = history(system, session_id)["messages"]
    assert cancelled["status"] == "cancelled"
    assert cancelled["content"].startswith("You wrote “Tell me")
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[1]["content"] == cancelled["content"]
    assert "“Tell me a story.”" in client.content
    assert "that I have seen: 3." in client.content


def test_a_question_that_got_no_word_of_answer_is_not_sent_again(system: System) -> None:
    failed = system.post("This fails.", model="demo/status=500")
    system.read_to_end(failed["task_id"])

    accepted = system.post("What did I say first?", model="demo/rate=0", session_id=failed["session_id"])
    client = system.read_to_end(accepted["task_id"])

    assert "This fails" not in client.content
    assert "that I have seen: 1." in client.content


def test_of_many_messages_at_once_a_session_takes_one(system: System) -> None:
    session_id = ask(system, "Hello.", model="demo/rate=0")
    body = {"message": "Now.", "model": "demo/hang", "session_id": session_id}

    responses = at_once(system, 16, body, {})

    taken = [response.json()["task_id"] for response in responses if response.status_code == 202]
    for task_id in taken:
        cancel(system, task_id)
    assert sorted(response.status_code for response in responses) == [202] + [409] * 15
    assert {response.json().get("code") for response in responses if response.status_code == 409} == {"session_busy"}
    assert [message["content"] for message in history(system, session_id)["messages"]].count("Now.") == 1


def at_once(system: System, count: int, body: dict[str, Any], headers: dict[str, str]) -> list[httpx.Response]:
    """The same POST from several threads, let go in the same moment."""
    together = threading.Barrier(count)

    def send(_: int) -> httpx.Response:
        together.wait(timeout=10)
        return system.http.post(CHAT, json=body, headers=headers)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(send, range(count)))


def test_the_same_request_under_the_same_key_is_the_same_task(system: System) -> None:
    body = {"message": "Once.", "model": "demo/echo,rate=0"}
    key = {"Idempotency-Key": uuid.uuid4().hex}

    first = system.http.post(CHAT, json=body, headers=key)
    second = system.http.post(CHAT, json=body, headers=key)

    assert first.status_code == second.status_code == 202
    assert first.json()["task_id"] == second.json()["task_id"]
    assert first.json()["session_id"] == second.json()["session_id"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    assert system.read_to_end(first.json()["task_id"]).content == "Once."


def test_a_key_still_names_its_task_after_the_end(system: System) -> None:
    body = {"message": "Once.", "model": "demo/echo,rate=0"}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = system.http.post(CHAT, json=body, headers=key)
    system.read_to_end(first.json()["task_id"])
    asked = system.model_stats()["requests"]

    with system.http.stream("POST", f"{CHAT}/stream", json=body, headers=key) as response:
        text = response.read().decode()

    assert response.history[0].headers["idempotent-replayed"] == "true"
    assert response.headers["x-task-id"] == first.json()["task_id"]
    assert text.count("event: completed\n") == 1
    assert system.model_stats()["requests"] == asked


def test_a_quoted_key_is_the_same_as_a_plain_one(system: System) -> None:
    body = {"message": "Once.", "model": "demo/rate=0"}
    key = uuid.uuid4().hex

    plain = system.http.post(CHAT, json=body, headers={"Idempotency-Key": key})
    quoted = system.http.post(CHAT, json=body, headers={"Idempotency-Key": f'"{key}"'})

    system.read_to_end(plain.json()["task_id"])
    assert plain.json()["task_id"] == quoted.json()["task_id"]


def test_another_request_under_a_used_key_is_refused(system: System) -> None:
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first = system.http.post(CHAT, json={"message": "One.", "model": "demo/rate=0"}, headers=key)

    second = system.http.post(CHAT, json={"message": "Two.", "model": "demo/rate=0"}, headers=key)

    system.read_to_end(first.json()["task_id"])
    assert second.status_code == 422
    assert second.headers["content-type"] == "application/problem+json"
    assert second.json()["code"] == "idempotency_key_reused"


def test_twenty_posts_with_one_key_make_one_task(system: System) -> None:
    body = {"message": "Just once, please.", "model": "demo/echo,rate=0"}
    asked = system.model_stats()["requests"]

    responses = at_once(system, 20, body, {"Idempotency-Key": uuid.uuid4().hex})

    assert {response.status_code for response in responses} == {202}
    [task_id] = {response.json()["task_id"] for response in responses}
    [session_id] = {response.json()["session_id"] for response in responses}
    client = system.read_to_end(task_id)
    assert client.content == "Just once, please."
    assert len(history(system, session_id)["messages"]) == 2
    assert system.model_stats()["requests"] == asked + 1
    with system.store_client() as store:
        wait_until(lambda: not store.hlen("dramatiq:llm.msgs"), what="the queue is empty")
        entries = store.xrange(keys.log(task_id))
    assert [fields[b"t"] for _, fields in entries].count(b"completed") == 1
    assert [fields[b"t"] for _, fields in entries].count(b"started") == 1


def test_a_replay_says_so_only_where_the_task_was_there_before(system: System) -> None:
    busy = system.post("Think.", model="demo/hang")
    body = {"message": "Next.", "model": "demo/echo,rate=0", "session_id": busy["session_id"]}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    refused = system.http.post(CHAT, json=body, headers=key)
    cancel(system, busy["task_id"])

    made = system.http.post(CHAT, json=body, headers=key)
    replayed = system.http.post(CHAT, json=body, headers=key)

    assert refused.status_code == 409
    assert made.status_code == replayed.status_code == 202
    assert made.json()["task_id"] == replayed.json()["task_id"]
    assert system.read_to_end(made.json()["task_id"]).content == "Next."
    assert replayed.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in made.headers


def test_a_task_answers_304_until_something_has_changed(system: System) -> None:
    accepted = system.post("Think.", model="demo/hang")
    path = f"/api/async/tasks/{accepted['task_id']}"
    with system.events(accepted["task_id"]) as events:
        assert [next(events).type, next(events).type] == ["created", "started"]
    before = system.http.get(path)

    unchanged = system.http.get(path, headers={"If-None-Match": before.headers["etag"]})
    cancel(system, accepted["task_id"])
    changed = system.http.get(path, headers={"If-None-Match": before.headers["etag"]})

    assert unchanged.status_code == 304
    assert unchanged.content == b""
    assert changed.status_code == 200
    assert json.loads(changed.content)["status"] == "cancelled"
