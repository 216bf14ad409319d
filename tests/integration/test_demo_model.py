"""The demo model over real HTTP, in a process of its own: its answers and each way it misbehaves."""

import json
import os
import signal
import time
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

#: How long a silence must last before a test believes in it, in seconds.
SILENCE_SECONDS = 0.5


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        running_model() as model,
        httpx.Client(base_url=model.url, timeout=PATIENCE_SECONDS, trust_env=False) as client,
    ):
        yield client


def chat(model: str, *texts: str, **fields: Any) -> dict[str, Any]:
    """The body of a request whose messages alternate between user and assistant."""
    messages = [
        {"role": "assistant" if index % 2 else "user", "content": text}
        for index, text in enumerate(texts or ("Hello",))
    ]
    return {"model": model, "messages": messages, **fields}


def post(client: httpx.Client, body: dict[str, Any]) -> httpx.Response:
    return client.post("/v1/chat/completions", json=body)


def content_of(response: httpx.Response) -> str:
    return str(response.json()["choices"][0]["message"]["content"])


def data_of(raw: bytes) -> list[bytes]:
    frames = frames_of(raw)
    assert all(frame.startswith(b"data: ") for frame in frames)
    return [frame.removeprefix(b"data: ") for frame in frames]


def deltas_of(raw: bytes, field: str = "content") -> list[str]:
    chunks = [json.loads(frame) for frame in data_of(raw) if frame != b"[DONE]"]
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    return [delta[field] for delta in deltas if delta.get(field)]


def test_a_streamed_answer_follows_the_protocol_to_its_end(client: httpx.Client) -> None:
    body = chat("demo/rate=0", stream=True, stream_options={"include_usage": True})

    response = post(client, body)

    frames = data_of(response.content)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert frames[-1] == b"[DONE]"
    chunks = [json.loads(frame) for frame in frames[:-1]]
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-2]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    usage = chunks[-1]["usage"]
    assert chunks[-1]["choices"] == []
    assert usage["completion_tokens"] == len(deltas_of(response.content))
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]


def test_usage_stays_out_of_a_stream_that_did_not_ask_for_it(client: httpx.Client) -> None:
    body = chat("demo/rate=0", stream=True)

    response = post(client, body)

    assert b'"usage"' not in response.content
    assert data_of(response.content)[-1] == b"[DONE]"


def test_a_whole_answer_says_the_same_as_a_streamed_one(client: httpx.Client) -> None:
    question = "What is a relay race?"

    streamed = post(client, chat("demo/rate=0", question, stream=True))
    whole = post(client, chat("demo/rate=0", question))

    assert content_of(whole) == "".join(deltas_of(streamed.content))
    assert question in content_of(whole)
    assert "demo model" in content_of(whole)
    assert 60 <= whole.json()["usage"]["completion_tokens"] <= 120


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("駅伝とは何ですか？", "デモモデル"),
        ("東京", "デモモデル"),
        ("What is Ekiden?", "demo model"),
        ("Qu'est-ce que c'est et comment je peux l'utiliser ?", "modèle de démonstration"),
        ("Was ist das und wie kann ich es benutzen?", "Demo-Modell"),
        ("¿Qué es esto y cómo puedo usarlo?", "modelo de demostración"),
        ("你好，请问什么是驿传？", "演示模型"),
        ("이것은 무엇입니까?", "데모 모델"),
    ],
)
def test_it_answers_in_the_language_it_was_asked_in(client: httpx.Client, question: str, expected: str) -> None:
    body = chat("demo/rate=0", question)

    answer = content_of(post(client, body))

    assert expected in answer
    assert question in answer


def test_it_remembers_the_first_message_and_counts_them_all(client: httpx.Client) -> None:
    body = chat("demo/rate=0", "My cat is called Mikan.", "Noted.", "What did I say first?")

    answer = content_of(post(client, body))

    assert "My cat is called Mikan." in answer
    assert "that I have seen: 3." in answer


def test_text_parts_count_as_one_message(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "駅"}, {"type": "text", "text": "伝"}]
    body = {"model": "demo/echo,rate=0", "messages": [{"role": "user", "content": parts}]}

    answer = content_of(post(client, body))

    assert answer == "駅伝"


def test_an_echo_is_byte_identical(client: httpx.Client) -> None:
    body = chat("demo/echo,rate=0", NASTY_TEXT, stream=True)

    response = post(client, body)

    deltas = deltas_of(response.content)
    assert "".join(deltas).encode() == NASTY_TEXT.encode()
    assert {len(delta) for delta in deltas[:-1]} == {1, 2, 3, 4, 5}


def test_an_echo_of_nothing_ends_well(client: httpx.Client) -> None:
    body = chat("demo/echo", "", stream=True)

    response = post(client, body)

    assert deltas_of(response.content) == []
    assert data_of(response.content)[-1] == b"[DONE]"


def test_max_tokens_cuts_the_answer_and_says_so(client: httpx.Client) -> None:
    body = chat("demo/rate=0,tokens=50", max_tokens=7)

    answer = post(client, body).json()

    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 7


def test_the_length_of_an_answer_can_be_chosen(client: httpx.Client) -> None:
    body = chat("demo/rate=0,tokens=500", stream=True)

    response = post(client, body)

    deltas = deltas_of(response.content)
    assert len(deltas) == 500
    assert len(set(deltas)) > 50


def test_reasoning_comes_before_the_answer(client: httpx.Client) -> None:
    body = chat("demo/reasoning,rate=0", stream=True)

    response = post(client, body)

    assert "".join(deltas_of(response.content, "reasoning_content")).startswith("The user writes")
    assert "".join(deltas_of(response.content)).startswith("You wrote")
    assert response.content.rindex(b"reasoning_content") < response.content.index(b'"content":"You')


def test_the_pace_and_the_first_token_can_be_chosen(client: httpx.Client) -> None:
    body = chat("demo/rate=50,tokens=26,first=0.3", stream=True)
    begin = time.monotonic()

    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        moments = [time.monotonic() - begin for _ in response.iter_raw()]

    assert moments[0] >= 0.3
    assert 0.3 + 25 / 50 - 0.05 <= moments[-1] <= PATIENCE_SECONDS


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 503])
def test_a_refusal_comes_with_its_status_before_any_token(client: httpx.Client, status: int) -> None:
    body = chat(f"demo/status={status}", stream=True)

    response = post(client, body)

    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}
    assert response.headers.get("retry-after") == ("7" if status == 429 else None)


def test_an_answer_that_is_cut_breaks_the_connection_without_an_end(client: httpx.Client) -> None:
    body = chat("demo/cut=20,rate=500", stream=True)

    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        raw, error = read_until_error(response)

    assert "incomplete chunked read" in str(error)
    assert len(deltas_of(raw)) == 20
    assert b"[DONE]" not in raw


def test_an_answer_without_an_end_closes_cleanly_but_never_says_that_it_is_done(
    client: httpx.Client,
) -> None:
    body = chat("demo/noend=20,rate=500", stream=True)

    response = post(client, body)

    assert len(deltas_of(response.content)) == 20
    assert b"[DONE]" not in response.content
    assert b'"finish_reason":"' not in response.content


def test_a_stalled_answer_falls_silent_after_its_tokens(client: httpx.Client) -> None:
    body = chat("demo/stall=20,rate=500", stream=True)

    with client.stream("POST", "/v1/chat/completions", json=body, timeout=SILENCE_SECONDS) as response:
        raw, error = read_until_error(response)

    assert isinstance(error, httpx.ReadTimeout)
    assert len(deltas_of(raw)) == 20


def test_a_silent_model_sends_headers_and_nothing_else(client: httpx.Client) -> None:
    body = chat("demo/silent", stream=True)

    with client.stream("POST", "/v1/chat/completions", json=body, timeout=SILENCE_SECONDS) as response:
        raw, error = read_until_error(response)

    assert response.status_code == 200
    assert isinstance(error, httpx.ReadTimeout)
    assert raw == b""


def test_a_hanging_model_sends_not_even_headers(client: httpx.Client) -> None:
    body = chat("demo/hang", stream=True)

    with (
        pytest.raises(httpx.ReadTimeout),
        client.stream("POST", "/v1/chat/completions", json=body, timeout=SILENCE_SECONDS),
    ):
        pytest.fail("headers came")


def test_an_error_amid_a_stream_is_told_in_the_stream(client: httpx.Client) -> None:
    body = chat("demo/error=20,rate=500", stream=True)

    response = post(client, body)

    *chunks, last = data_of(response.content)
    assert len(chunks) == 1 + 20  # the role comes in a chunk of its own
    assert set(json.loads(last)) == {"error"}
    assert b"[DONE]" not in response.content


def test_a_wrong_key_is_refused(client: httpx.Client) -> None:
    headers = {"authorization": "Bearer wrong"}

    response = client.post("/v1/chat/completions", json=chat("demo"), headers=headers)

    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


def test_it_answers_to_the_names_that_it_was_given_and_to_no_other() -> None:
    with (
        running_model("--names", "gpt-4o-mini,demo") as model,
        httpx.Client(base_url=model.url, timeout=PATIENCE_SECONDS, trust_env=False) as client,
    ):
        given = [post(client, chat(name)) for name in ("gpt-4o-mini/echo", "demo/echo")]
        other = post(client, chat("gpt-4o"))

    assert [content_of(response) for response in given] == ["Hello", "Hello"]
    assert other.status_code == 404


def test_a_fault_lies_within_the_answer_however_short_that_is_by_nature(client: httpx.Client) -> None:
    body = chat("demo/noend=300,rate=0", stream=True)

    response = post(client, body)

    assert len(deltas_of(response.content)) == 300


@pytest.mark.parametrize("model", ["demo/silent", "demo/stall=3,rate=0", "demo/rate=1"])
def test_a_client_that_leaves_is_noticed_at_once_even_while_the_model_is_silent(
    client: httpx.Client, model: str
) -> None:
    before = stats_at_rest(client)
    with client.stream("POST", "/v1/chat/completions", json=chat(model, stream=True)) as response:
        assert response.status_code == 200
        during = stats_of(client)

    after = stats_at_rest(client)
    assert during["open_connections"] == 1
    assert during["requests"] == before["requests"] + 1
    assert after == {**during, "open_connections": 0, "cancelled": before["cancelled"] + 1}


def test_an_answer_that_was_read_to_its_end_is_not_cancelled(client: httpx.Client) -> None:
    before = stats_at_rest(client)

    post(client, chat("demo/rate=0", stream=True))
    post(client, chat("demo/rate=0"))

    assert stats_of(client) == {**before, "requests": before["requests"] + 2}


@pytest.mark.parametrize(
    "model", ["gpt-4", "demo/", "demo/loud", "demo/rate=fast", "demo/cut=1,stall=1", "demo/silent=1"]
)
def test_a_model_name_that_is_not_understood_is_not_found(client: httpx.Client, model: str) -> None:
    body = chat(model)

    response = post(client, body)

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{", None),
        (b"\xff", None),
        (b'{"model": "demo", "messages": []}', "messages"),
        (b'{"model": "demo", "messages": [{"role": 1}]}', "messages[0].role"),
        (b'{"model": "demo", "messages": [{"role": "user", "content": "\\ud800"}]}', None),
    ],
)
def test_a_body_that_is_no_chat_request_is_refused(client: httpx.Client, body: bytes, param: str | None) -> None:
    response = client.post("/v1/chat/completions", content=body)

    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_unknown_paths_and_methods_are_refused_in_the_words_of_the_protocol(client: httpx.Client) -> None:
    unknown = client.get("/v1/nothing")
    wrong = client.get("/v1/chat/completions")

    assert unknown.status_code == 404
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    assert set(wrong.json()["error"]) == set(unknown.json()["error"]) == {"message", "type", "param", "code"}


def test_every_listed_model_exists(client: httpx.Client) -> None:
    names = [model["id"] for model in client.get("/v1/models").json()["data"]]

    for name in names:
        # headers are enough, or this would take as long as the slowest of them
        with client.stream("POST", "/v1/chat/completions", json=chat(name, stream=True)) as response:
            assert response.status_code == 200

    assert names[0] == "demo"


def test_it_says_that_it_is_well(client: httpx.Client) -> None:
    response = client.get("/healthz")

    assert response.status_code == 200


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_a_stream_open(sig: signal.Signals) -> None:
    with running_model() as model, httpx.Client(base_url=model.url, trust_env=False) as client:
        body = chat("demo/silent", stream=True)
        with client.stream("POST", "/v1/chat/completions", json=body):
            begin = time.monotonic()

            os.kill(model.process.pid, sig)
            exit_code = model.process.wait(PATIENCE_SECONDS)

            seconds = time.monotonic() - begin
        assert model.process.stderr is not None
        assert exit_code == 0
        assert seconds < 2.0
        assert model.process.stderr.read() == ""
