"""Any model: OpenAI, Anthropic and Gemini, each in its own protocol through litellm's own HTTP, end to end.

The demo model stands where the three providers are. Whatever it does, the task ends once, in the same event and with
the same code whoever was asked.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from shared.contracts import keys
from tests.demo_model import NASTY_TEXT
from tests.event_stream import TERMINAL, Client
from tests.patience import wait_until
from tests.system import System

#: What each provider calls its model, as clients ask for it.
MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-1.5-flash",
}

#: Limits of the relay, in seconds.
FIRST_TOKEN, IDLE = 2.0, 1.0

#: The most text of an answer, in bytes.
MAX_ANSWER = 20_000

#: Stands in the place of every key, so that it would be seen wherever a key gets out.
KEY = "sk-a-key-that-nobody-may-see"

#: What would show the provider's words, a library, an address, a file or a key.
PROVIDERS_WORDS = ("demo model", "127.0.0.1", "litellm", "traceback", "exception", "http", ".py", "api_key", KEY)

#: The first ten words of the answer to "Hello."
TEN_WORDS = "You wrote “Hello.”. I am Ekiden's demo model and no"


def providers_are_the_demo_model(demo_url: str) -> dict[str, str]:
    return {
        "OPENAI_BASE_URL": f"{demo_url}/v1",
        "ANTHROPIC_BASE_URL": demo_url,
        "GEMINI_API_BASE": f"{demo_url}/v1beta",
    }


def with_keys(demo_url: str) -> dict[str, str]:
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
    return providers_are_the_demo_model(demo_url) | dict.fromkeys(names, KEY)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A relay with short limits, whose worker finds the three providers in the demo model."""
    settings = {
        "EKIDEN_MODELS": "openai/*,anthropic/*,gemini/*",
        "EKIDEN_DEFAULT_MODEL": MODELS["gemini"],
        "EKIDEN_FIRST_TOKEN_SECONDS": str(FIRST_TOKEN),
        "EKIDEN_IDLE_SECONDS": str(IDLE),
        "EKIDEN_MAX_ANSWER_BYTES": str(MAX_ANSWER),
    }
    running = System(
        tmp_path_factory.mktemp("any_model"),
        settings=settings,
        provider_settings=with_keys,
        model_names=[model.partition("/")[2] for model in MODELS.values()],
    )
    running.start()
    yield running
    running.stop()


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    """Each provider's model in turn; behaviours follow a slash."""
    return MODELS[request.param]


def answer(relay: System, model: str, message: str = "Hello.", **body: Any) -> tuple[Client, dict[str, Any]]:
    """What a client saw, up to the one terminal event, and the task at its end."""
    accepted = relay.post(message, model=model, **body)
    client = relay.read_to_end(accepted["task_id"])
    assert client.end is not None
    assert terminal_entries(relay, accepted["task_id"]) == [client.end.type]
    return client, relay.task(accepted["task_id"])


def terminal_entries(relay: System, task_id: str) -> list[str]:
    with relay.store_client() as store:
        entries = store.xrange(keys.log(task_id))
    return [fields[b"t"].decode() for _, fields in entries if fields[b"t"].decode() in TERMINAL]


def await_closed(relay: System) -> None:
    wait_until(lambda: relay.model_stats()["open_connections"] == 0, 1, "the provider's connection is closed")


def assert_failed(relay: System, model: str, code: str) -> tuple[Client, dict[str, Any]]:
    client, task = answer(relay, model)
    assert client.end is not None
    assert client.end.type == "failed", client.end.data
    problem: dict[str, Any] = client.end.data["problem"]
    assert problem["code"] == code
    assert client.end.data["partial"] == client.content == task["content"]
    assert task["status"] == "failed"
    assert task["problem"] == problem
    assert_tells_nothing(problem)
    await_closed(relay)
    return client, problem


def assert_tells_nothing(problem: dict[str, Any]) -> None:
    told = str({**problem, "type": ""}).lower()
    assert not [word for word in PROVIDERS_WORDS if word in told], problem


def test_an_answer_arrives_whole_with_its_usage_and_its_reason(relay: System, model: str) -> None:
    client, task = answer(relay, f"{model}/rate=200,tokens=50")

    assert client.end is not None
    assert client.end.type == "completed", client.end.data
    assert client.end.data["content"] == client.content == task["content"]
    assert client.content.startswith(TEN_WORDS)
    assert client.end.data["finish_reason"] == task["finish_reason"] == "stop"
    assert client.end.data["usage"] == task["usage"]
    assert task["usage"]["output_tokens"] == 50
    assert task["usage"]["input_tokens"] == 4 + len("Hello.") // 4
    assert task["usage"]["estimated"] is False
    assert client.types.count("delta") > 3


def test_a_plain_name_is_enough_and_may_be_the_default(relay: System) -> None:
    accepted = relay.post("Hello.")

    client = relay.read_to_end(accepted["task_id"])

    assert relay.task(accepted["task_id"])["model"] == "gemini/gemini-1.5-flash"
    assert client.end is not None
    assert client.end.type == "completed"
    assert client.content.startswith(TEN_WORDS)


@pytest.mark.parametrize("rate", [0, 500])
def test_text_arrives_byte_for_byte(relay: System, model: str, rate: int) -> None:
    text = NASTY_TEXT.replace("\x00", "") * 3

    client, task = answer(relay, f"{model}/echo,rate={rate}", text)

    assert client.content.encode() == text.encode()
    assert task["content"] == text


def test_what_a_model_thinks_is_told_apart_from_what_it_says(relay: System, model: str) -> None:
    client, task = answer(relay, f"{model}/reasoning,rate=200,tokens=30")

    assert client.reasoning.startswith("The user writes “Hello.”.")
    assert client.content.startswith("You wrote “Hello.”.")
    assert "reasoning" not in client.types[client.types.index("delta") :]
    assert task["reasoning"] == client.reasoning
    assert task["usage"]["output_tokens"] == 30 + len(client.reasoning.split())


def test_a_model_is_told_what_was_said_before(relay: System, model: str) -> None:
    first = relay.post("My cat is called Mikan.", model=f"{model}/rate=0")
    relay.read_to_end(first["task_id"])

    client, _ = answer(relay, f"{model}/rate=0", "What did I say first?", session_id=first["session_id"])

    assert "that I have seen: 3." in client.content
    assert "My cat is called Mikan." in client.content


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "provider_refused_request", False),
        (401, "provider_refused_key", False),
        (403, "provider_refused_key", False),
        (404, "model_not_found", False),
        (413, "context_too_long", False),
        (422, "provider_refused_request", False),
        (429, "provider_over_quota", True),
        (500, "provider_unavailable", True),
        (503, "provider_unavailable", True),
        (529, "provider_unavailable", True),
    ],
)
def test_a_refusal_fails_the_task_with_its_own_code(
    relay: System, model: str, status: int, code: str, retryable: bool
) -> None:
    client, problem = assert_failed(relay, f"{model}/status={status}", code)

    assert client.types == ["created", "started", "failed"]
    assert problem["retryable"] is retryable
    assert problem.get("retry_after_seconds") == (7 if status == 429 else None)


def test_a_model_that_the_provider_does_not_know_is_not_found(relay: System, model: str) -> None:
    assert_failed(relay, f"{model}-2", "model_not_found")


@pytest.mark.parametrize("fault", ["cut", "noend", "error"])
@pytest.mark.parametrize("rate", [0, 100])
def test_an_answer_that_breaks_off_is_no_whole_answer(relay: System, model: str, fault: str, rate: int) -> None:
    client, problem = assert_failed(relay, f"{model}/{fault}=10,rate={rate}", "provider_cut")

    assert client.content == TEN_WORDS
    assert problem["retryable"] is True


@pytest.mark.parametrize(
    ("fault", "code"),
    [("cut", "provider_unavailable"), ("noend", "provider_cut"), ("error", "provider_unavailable")],
)
def test_an_answer_that_breaks_off_before_its_first_word_is_no_answer(
    relay: System, model: str, fault: str, code: str
) -> None:
    client, _ = assert_failed(relay, f"{model}/{fault}=0", code)

    assert client.content == ""


def test_a_model_that_falls_silent_is_given_up_and_its_text_kept(relay: System, model: str) -> None:
    client, _ = assert_failed(relay, f"{model}/stall=10,rate=100", "provider_silent")

    assert client.content == TEN_WORDS


@pytest.mark.parametrize("fault", ["silent", "hang"])
def test_a_model_that_never_begins_is_given_up(relay: System, model: str, fault: str) -> None:
    began = time.monotonic()

    client, _ = assert_failed(relay, f"{model}/{fault}", "provider_silent")

    assert client.content == ""
    assert FIRST_TOKEN * 0.9 < time.monotonic() - began < FIRST_TOKEN + 2


def test_a_provider_that_is_down_fails_the_task(relay: System, model: str) -> None:
    relay.demo.kill()
    try:
        client, _ = answer(relay, model)
    finally:
        relay.restart(relay.demo)

    assert client.end is not None
    assert client.end.data["problem"]["code"] == "provider_unavailable"
    assert_tells_nothing(client.end.data["problem"])
    assert answer(relay, f"{model}/rate=0")[1]["status"] == "completed"


@pytest.mark.parametrize("behaviour", ["rate=20,tokens=500", "rate=500,tokens=5000", "stall=3,rate=100"])
def test_a_cancel_amid_the_text_closes_the_connection_to_the_provider(
    relay: System, model: str, behaviour: str
) -> None:
    before = relay.model_stats()["cancelled"]
    accepted = relay.post("Hello.", model=f"{model}/{behaviour}")
    client = Client()
    with relay.events(accepted["task_id"]) as events:
        for event in events:
            client.take(event)
            if client.types.count("delta") == 1:
                break
        task = relay.http.post(accepted["urls"]["cancel"]).json()
        wait_until(lambda: relay.model_stats()["cancelled"] == before + 1, 1, "the provider has noticed")
        for event in events:
            client.take(event)

    assert client.end is not None
    assert client.end.type == task["status"] == "cancelled"
    assert client.end.data["partial"] == client.content == task["content"]
    assert client.content.startswith("You")
    assert terminal_entries(relay, accepted["task_id"]) == ["cancelled"]


@pytest.mark.parametrize("fault", ["silent", "hang"])
def test_a_cancel_before_the_first_word_closes_the_connection_to_the_provider(
    relay: System, model: str, fault: str
) -> None:
    accepted = relay.post("Hello.", model=f"{model}/{fault}")
    wait_until(lambda: relay.model_stats()["open_connections"] == 1, what="the model was asked")

    relay.http.post(accepted["urls"]["cancel"])

    await_closed(relay)
    assert terminal_entries(relay, accepted["task_id"]) == ["cancelled"]


def test_an_answer_that_is_left_at_the_limit_of_bytes_closes_the_connection(relay: System, model: str) -> None:
    client, _ = answer(relay, f"{model}/rate=0,tokens=20000")

    assert client.end is not None
    assert client.end.data["finish_reason"] == "length"
    assert MAX_ANSWER <= len(client.content.encode()) < MAX_ANSWER + 4096
    await_closed(relay)


def test_a_key_is_in_no_log(relay: System, model: str) -> None:
    assert_failed(relay, f"{model}/status=401", "provider_refused_key")

    logs = relay.logs()

    assert "provider_failed" in logs
    assert KEY not in logs
    assert "Incorrect API key" not in logs


@pytest.fixture(scope="module", params=["unset", "empty"])
def keyless_relay(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A relay whose worker knows where the providers are and has no key."""
    names = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")
    empty = dict.fromkeys(names, "") if request.param == "empty" else {}
    running = System(
        tmp_path_factory.mktemp("keyless"),
        settings={"EKIDEN_MODELS": "openai/*,anthropic/*,gemini/*", "EKIDEN_DEFAULT_MODEL": MODELS["gemini"]},
        provider_settings=lambda demo_url: providers_are_the_demo_model(demo_url) | empty,
    )
    running.start()
    yield running
    running.stop()


def test_a_model_whose_key_is_not_set_is_refused_before_anything_is_sent(keyless_relay: System, model: str) -> None:
    before = keyless_relay.model_stats()["requests"]

    client, problem = assert_failed(keyless_relay, model, "provider_refused_key")

    assert client.types == ["created", "started", "failed"]
    assert problem["retryable"] is False
    assert keyless_relay.model_stats()["requests"] == before
    assert "API_KEY" not in keyless_relay.logs()
