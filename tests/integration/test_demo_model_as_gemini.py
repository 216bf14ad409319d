"""The demo model asked as Gemini is asked: the wire format as its public documentation gives it, by raw HTTP."""

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

KEY = {"x-goog-api-key": "any"}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with (
        running_model("--names", "gemini-demo") as model,
        httpx.Client(base_url=model.url, timeout=PATIENCE_SECONDS, trust_env=False, headers=KEY) as client,
    ):
        yield client


def body(text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": text}]}], **fields}


def streamed_from(options: str) -> str:
    return f"/v1beta/models/gemini-demo/{options}:streamGenerateContent?alt=sse"


def whole_from(options: str) -> str:
    return f"/v1beta/models/gemini-demo/{options}:generateContent"


def chunks_of(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(frame.removeprefix(b"data: ")) for frame in frames_of(raw)]


def texts_of(raw: bytes, *, thoughts: bool = False) -> list[str]:
    candidates = [candidate for chunk in chunks_of(raw) for candidate in chunk.get("candidates", [])]
    parts = [part for candidate in candidates for part in candidate["content"]["parts"]]
    return [part["text"] for part in parts if part["text"] and part.get("thought", False) is thoughts]


def test_a_stream_is_one_response_after_another_and_the_last_has_the_reason_and_the_usage(
    client: httpx.Client,
) -> None:
    response = client.post(streamed_from("rate=0,tokens=5"), json=body())

    assert response.headers["content-type"].startswith("text/event-stream")
    *chunks, last = chunks_of(response.content)
    assert len(chunks) == 5
    for chunk in chunks:
        [candidate] = chunk["candidates"]
        assert candidate["content"]["role"] == "model"
        assert candidate["index"] == 0
        assert "finishReason" not in candidate
    assert last["candidates"][0]["finishReason"] == "STOP"
    usage = last["usageMetadata"]
    assert usage["candidatesTokenCount"] == 5
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + 5
    assert {chunk["modelVersion"] for chunk in [*chunks, last]} == {"gemini-demo/rate=0,tokens=5"}
    assert len({chunk["responseId"] for chunk in [*chunks, last]}) == 1


def test_a_whole_answer_says_the_same_as_a_streamed_one(client: httpx.Client) -> None:
    streamed = client.post(streamed_from("rate=0"), json=body())
    whole = client.post(whole_from("rate=0"), json=body()).json()

    [candidate] = whole["candidates"]
    assert candidate["content"] == {"role": "model", "parts": [{"text": "".join(texts_of(streamed.content))}]}
    assert candidate["finishReason"] == "STOP"


def test_a_thought_is_a_part_that_says_so_and_is_counted_apart(client: httpx.Client) -> None:
    streamed = client.post(streamed_from("reasoning,rate=0"), json=body())
    whole = client.post(whole_from("reasoning,rate=0"), json=body()).json()

    thought = texts_of(streamed.content, thoughts=True)
    thought_part, text_part = whole["candidates"][0]["content"]["parts"]
    assert thought_part == {"text": "".join(thought), "thought": True}
    assert text_part["text"].startswith("You wrote")
    usage = chunks_of(streamed.content)[-1]["usageMetadata"]
    assert usage["thoughtsTokenCount"] == len(thought)
    assert usage["candidatesTokenCount"] == len(texts_of(streamed.content))
    assert usage["totalTokenCount"] == sum(
        usage[count] for count in ("promptTokenCount", "thoughtsTokenCount", "candidatesTokenCount")
    )


def test_an_echo_is_byte_identical(client: httpx.Client) -> None:
    response = client.post(streamed_from("echo,rate=0"), json=body(NASTY_TEXT))

    assert "".join(texts_of(response.content)).encode() == NASTY_TEXT.encode()


@pytest.mark.parametrize("name", ["systemInstruction", "system_instruction"])
def test_parts_and_the_system_instruction_are_read(client: httpx.Client, name: str) -> None:
    parts = [{"text": "駅"}, {"text": "伝"}]
    asked = {"contents": [{"role": "user", "parts": parts}]}

    answer = client.post(whole_from("echo,rate=0"), json={**asked, name: {"parts": parts}}).json()
    without = client.post(whole_from("echo,rate=0"), json=asked).json()

    assert answer["candidates"][0]["content"]["parts"] == [{"text": "駅伝"}]
    assert answer["usageMetadata"]["promptTokenCount"] > without["usageMetadata"]["promptTokenCount"]


def test_the_conversation_is_told_apart_by_its_roles(client: httpx.Client) -> None:
    contents = [
        {"role": "user", "parts": [{"text": "My cat is called Mikan."}]},
        {"role": "model", "parts": [{"text": "Noted."}]},
        {"role": "user", "parts": [{"text": "What did I say first?"}]},
    ]

    answer = client.post(whole_from("rate=0"), json={"contents": contents}).json()

    text = answer["candidates"][0]["content"]["parts"][0]["text"]
    assert "My cat is called Mikan." in text
    assert "that I have seen: 3." in text


def test_max_output_tokens_cuts_the_answer_and_says_so(client: httpx.Client) -> None:
    asked = body(generationConfig={"maxOutputTokens": 7})

    answer = client.post(whole_from("rate=0,tokens=50"), json=asked).json()

    assert answer["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert answer["usageMetadata"]["candidatesTokenCount"] == 7


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (400, "INVALID_ARGUMENT"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "NOT_FOUND"),
        (429, "RESOURCE_EXHAUSTED"),
        (500, "INTERNAL"),
        (503, "UNAVAILABLE"),
    ],
)
def test_a_refusal_comes_with_its_status_in_numbers_and_words(client: httpx.Client, status: int, name: str) -> None:
    response = client.post(streamed_from(f"status={status}"), json=body())

    error = response.json()["error"]
    assert response.status_code == error["code"] == status
    assert error["status"] == name
    assert "retry-after" not in response.headers
    assert [detail["retryDelay"] for detail in error.get("details", [])] == (["7s"] if status == 429 else [])


def test_the_key_may_stand_in_the_address(client: httpx.Client) -> None:
    response = client.post(whole_from("echo,rate=0") + "?key=any", json=body(), headers={"x-goog-api-key": ""})

    assert response.status_code == 200


@pytest.mark.parametrize(
    ("key", "status", "name"), [("", 403, "PERMISSION_DENIED"), ("wrong", 400, "INVALID_ARGUMENT")]
)
def test_a_key_is_wanted_and_a_wrong_one_is_a_bad_request(
    client: httpx.Client, key: str, status: int, name: str
) -> None:
    response = client.post(whole_from("rate=0"), json=body(), headers={"x-goog-api-key": key})

    assert response.status_code == status
    assert response.json()["error"]["status"] == name


@pytest.mark.parametrize("asked", [{"contents": []}, {"contents": [{"role": "system", "parts": []}]}])
def test_a_body_that_is_no_request_is_refused(client: httpx.Client, asked: dict[str, Any]) -> None:
    response = client.post(streamed_from("rate=0"), json=asked)

    assert response.status_code == 400
    assert "contents" in response.json()["error"]["message"]


def test_a_stream_is_to_be_had_as_events_only(client: httpx.Client) -> None:
    response = client.post(streamed_from("rate=0").removesuffix("?alt=sse"), json=body())

    assert response.status_code == 400


def test_what_is_not_there_is_not_found_in_the_words_of_the_protocol(client: httpx.Client) -> None:
    model = client.post("/v1beta/models/gemini-0:generateContent", json=body())
    manner = client.post("/v1beta/models/gemini-demo:countTokens", json=body())

    assert model.status_code == manner.status_code == 404
    assert model.json()["error"]["status"] == manner.json()["error"]["status"] == "NOT_FOUND"


def test_an_answer_without_an_end_gives_no_reason_for_one(client: httpx.Client) -> None:
    response = client.post(streamed_from("noend=20,rate=0"), json=body())

    assert len(texts_of(response.content)) == 20
    assert b"finishReason" not in response.content


def test_an_answer_that_is_cut_breaks_the_connection(client: httpx.Client) -> None:
    with client.stream("POST", streamed_from("cut=20,rate=0"), json=body()) as response:
        raw, _ = read_until_error(response)

    assert len(texts_of(raw)) == 20


def test_an_error_amid_a_stream_takes_the_place_of_a_response(client: httpx.Client) -> None:
    response = client.post(streamed_from("error=20,rate=0"), json=body())

    *chunks, last = chunks_of(response.content)
    assert len(chunks) == 20
    assert last["error"]["status"] == "UNAVAILABLE"


def test_a_client_that_leaves_is_noticed(client: httpx.Client) -> None:
    before = stats_at_rest(client)
    with client.stream("POST", streamed_from("silent"), json=body()) as response:
        assert response.status_code == 200
        during = stats_of(client)

    assert during["open_connections"] == 1
    assert stats_at_rest(client)["cancelled"] == before["cancelled"] + 1
