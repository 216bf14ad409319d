"""The demo model asked as Anthropic is asked: the wire format as its public documentation gives it, by raw HTTP."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.demo_model import (
    NASTY_TEXT,
    PATIENCE_SECONDS,
    frames_of,
    read_until_error,
    running_model,
    stats_at_rest,
    stats_of,
)

KEY = {"x-api-key": "any", "anthropic-version": "2023-06-01"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        running_model("--names", "claude-demo") as model,
        httpx.Client(base_url=model.url, timeout=PATIENCE_SECONDS, trust_env=False, headers=KEY) as client,
    ):
        yield client


def ask(options: str, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": f"claude-demo/{options}", "max_tokens": 1000, "messages": messages, **fields}


def post(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/messages", json=body)


def events_of(raw: bytes) -> list[dict[str, Any]]:
    """The data of each event. The name of an event is the type in its data, always."""
    events = []
    for frame in frames_of(raw):
        name, data = frame.split(b"\n")
        event = json.loads(data.removeprefix(b"data: "))
        assert name == b"event: " + event["type"].encode()
        events.append(event)
    return events


def deltas_of(raw: bytes, kind: str = "text_delta") -> list[str]:
    field = kind.removesuffix("_delta")
    deltas = [event["delta"] for event in events_of(raw) if event["type"] == "content_block_delta"]
    return [delta[field] for delta in deltas if delta["type"] == kind]


def test_a_stream_is_a_message_of_blocks_from_start_to_stop(client: httpx.Client) -> None:
    response = post(client, ask("rate=0,tokens=5", stream=True))

    assert response.headers["content-type"].startswith("text/event-stream")
    start, ping, opened, *deltas, closed, end, stop = events_of(response.content)
    message = start["message"]
    assert start["type"] == "message_start"
    assert message["id"].startswith("msg_")
    assert {key: message[key] for key in ("type", "role", "content", "stop_reason", "stop_sequence")} == {
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }
    assert message["model"] == "claude-demo/rate=0,tokens=5"
    assert message["usage"]["input_tokens"] > 0
    assert ping == {"type": "ping"}
    assert opened == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert len(deltas) == 5
    assert {(delta["type"], delta["index"], delta["delta"]["type"]) for delta in deltas} == {
        ("content_block_delta", 0, "text_delta")
    }
    assert closed == {"type": "content_block_stop", "index": 0}
    assert end["delta"] == {"stop_reason": "end_turn", "stop_sequence": None}
    assert end["usage"] == {"output_tokens": 5}
    assert stop == {"type": "message_stop"}


def test_a_whole_answer_says_the_same_as_a_streamed_one(client: httpx.Client) -> None:
    streamed = post(client, ask("rate=0", stream=True))
    whole = post(client, ask("rate=0")).json()

    [block] = whole["content"]
    assert block == {"type": "text", "text": "".join(deltas_of(streamed.content))}
    assert whole["type"] == "message"
    assert whole["stop_reason"] == "end_turn"
    assert set(whole["usage"]) == {"input_tokens", "output_tokens"}


def test_a_thought_is_a_block_of_its_own_before_the_text(client: httpx.Client) -> None:
    streamed = post(client, ask("reasoning,rate=0", stream=True))
    whole = post(client, ask("reasoning,rate=0")).json()

    events = events_of(streamed.content)
    opened = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    kinds = [event["delta"]["type"] for event in events if event["type"] == "content_block_delta"]
    assert opened == ["thinking", "text"]
    assert list(dict.fromkeys(kinds)) == ["thinking_delta", "signature_delta", "text_delta"]
    assert [block["type"] for block in whole["content"]] == ["thinking", "text"]
    assert whole["content"][0]["thinking"] == "".join(deltas_of(streamed.content, "thinking_delta"))


def test_an_echo_is_byte_identical(client: httpx.Client) -> None:
    response = post(client, ask("echo,rate=0", NASTY_TEXT, stream=True))

    assert "".join(deltas_of(response.content)).encode() == NASTY_TEXT.encode()


def test_an_echo_of_nothing_is_one_empty_block(client: httpx.Client) -> None:
    response = post(client, ask("echo,rate=0", "", stream=True))

    types = [event["type"] for event in events_of(response.content)]
    blocks = [name for name in types if name.startswith("content_block")]
    assert blocks == ["content_block_start", "content_block_stop"]
    assert types[-1] == "message_stop"


def test_blocks_of_text_and_the_system_field_are_read(client: httpx.Client) -> None:
    blocks = [{"type": "text", "text": "駅"}, {"type": "text", "text": "伝"}]
    body = {**ask("echo,rate=0"), "system": blocks, "messages": [{"role": "user", "content": blocks}]}

    answer = post(client, body).json()
    without = post(client, {**body, "system": None}).json()

    assert answer["content"][0]["text"] == "駅伝"
    assert answer["usage"]["input_tokens"] > without["usage"]["input_tokens"]


def test_max_tokens_cuts_the_answer_and_says_so(client: httpx.Client) -> None:
    answer = post(client, ask("rate=0,tokens=50", max_tokens=7)).json()

    assert answer["stop_reason"] == "max_tokens"
    assert answer["usage"]["output_tokens"] == 7


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_a_refusal_comes_with_its_status_and_type(client: httpx.Client, status: int, kind: str) -> None:
    response = post(client, ask(f"status={status}", stream=True))

    assert response.status_code == status
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == kind
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)


@pytest.mark.parametrize("key", ["", "wrong"])
def test_a_key_is_wanted_and_a_wrong_one_refused(client: httpx.Client, key: str) -> None:
    response = client.post("/v1/messages", json=ask("rate=0"), headers={"x-api-key": key})

    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"


@pytest.mark.parametrize(
    "fault",
    [{"max_tokens": None}, {"messages": []}, {"messages": [{"role": "system", "content": "Be brief."}]}],
)
def test_a_body_that_is_no_request_is_refused(client: httpx.Client, fault: dict[str, Any]) -> None:
    response = post(client, {**ask("rate=0"), **fault})

    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"
    assert next(iter(fault)) in response.json()["error"]["message"]


def test_what_is_not_there_is_not_found_in_the_words_of_the_protocol(client: httpx.Client) -> None:
    model = post(client, {**ask(""), "model": "claude-0"})
    path = client.post("/v1/messages/batches", json={})

    assert model.status_code == path.status_code == 404
    assert model.json()["error"]["type"] == path.json()["error"]["type"] == "not_found_error"


def test_an_answer_without_an_end_says_nothing_of_one(client: httpx.Client) -> None:
    response = post(client, ask("noend=20,rate=0", stream=True))

    assert len(deltas_of(response.content)) == 20
    assert events_of(response.content)[-1]["type"] == "content_block_delta"


def test_an_answer_that_is_cut_breaks_the_connection(client: httpx.Client) -> None:
    with client.stream("POST", "/v1/messages", json=ask("cut=20,rate=0", stream=True)) as response:
        raw, _ = read_until_error(response)

    assert len(deltas_of(raw)) == 20


def test_an_error_amid_a_stream_is_an_event(client: httpx.Client) -> None:
    response = post(client, ask("error=20,rate=0", stream=True))

    *_, before, last = events_of(response.content)
    assert before["type"] == "content_block_delta"
    assert last["type"] == "error"
    assert last["error"]["type"] == "overloaded_error"


def test_a_client_that_leaves_is_noticed(client: httpx.Client) -> None:
    before = stats_at_rest(client)
    with client.stream("POST", "/v1/messages", json=ask("silent", stream=True)) as response:
        assert response.status_code == 200
        during = stats_of(client)

    assert during["open_connections"] == 1
    assert stats_at_rest(client)["cancelled"] == before["cancelled"] + 1
