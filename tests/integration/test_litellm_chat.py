"""LitellmChat in this process, against a demo model that stands where three providers are."""

import asyncio
from collections.abc import Iterator

import litellm
import pytest

from shared.contracts.errors import ProviderError
from shared.contracts.sessions import Message
from shared.providers.chat import Question
from shared.providers.errors import ProviderRefusedKey
from shared.providers.litellm_chat import LitellmChat
from tests.demo_model import running_model

#: pydantic's warnings about litellm's code, which as errors would be taken for a provider's.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Item .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning"),
]

MODELS = ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5", "gemini/gemini-1.5-flash"]

KEYS = ["OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"]


@pytest.fixture(scope="module")
def demo_url() -> Iterator[str]:
    with running_model("--names", "gpt-4o-mini,claude-sonnet-4-5,gemini-1.5-flash,gemma-3") as model:
        yield model.url


@pytest.fixture
def providers(demo_url: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The environment of a worker that reaches the three providers, with a key for each."""
    monkeypatch.setenv("OPENAI_BASE_URL", f"{demo_url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", demo_url)
    monkeypatch.setenv("GEMINI_API_BASE", f"{demo_url}/v1beta")
    for name in KEYS:
        monkeypatch.setenv(name, "any")
    return monkeypatch


def answer(model: str, *messages: Message) -> str:
    """What a model says. Every call has an event loop of its own, as litellm's connections do."""

    async def ask() -> str:
        try:
            question = Question(model=model, messages=list(messages), max_seconds=10)
            return "".join([piece.content async for piece in LitellmChat(demo_url="").stream(question)])
        finally:
            await litellm.close_litellm_async_clients()

    return asyncio.run(ask())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.usefixtures("providers")
def test_a_system_message_is_not_the_users_word(model: str) -> None:
    system = Message(role="system", content="Be brief.")
    user = Message(role="user", content="Hello.")

    text = answer(f"{model}/rate=0", system, user)

    assert text.startswith("You wrote “Hello.”.")
    assert "that I have seen: 1." in text


@pytest.mark.usefixtures("providers")
def test_a_model_that_takes_no_system_message_reads_it_as_text() -> None:
    system = Message(role="system", content="Be brief.")
    user = Message(role="user", content="Hello.")

    text = answer("gemini/gemma-3/rate=0", system, user)

    assert "Be brief." in text


@pytest.mark.parametrize("model", MODELS)
def test_a_wrong_key_is_a_refused_key_however_the_provider_says_it(providers: pytest.MonkeyPatch, model: str) -> None:
    for name in KEYS:
        providers.setenv(name, "wrong")

    with pytest.raises(ProviderError) as raised:
        answer(model, Message(role="user", content="Hello."))

    assert type(raised.value) is ProviderRefusedKey
