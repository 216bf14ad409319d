"""From the name a client asks for to what litellm must be told. The demo model is one more OpenAI endpoint."""

from dataclasses import dataclass, field
from typing import Any

from shared.contracts.models import DEMO_MODEL, is_demo


@dataclass(frozen=True, slots=True)
class Route:
    """The litellm name of a model and the keyword arguments that go with it. Nothing in it comes from a client."""

    model: str
    arguments: dict[str, Any] = field(default_factory=dict)


def route(model: str, *, demo_url: str) -> Route:
    """Where a model is. Keys and bases of real providers are litellm's to find, in its own variables."""
    if is_demo(model):
        return Route(f"openai/{model}", {"api_base": demo_url, "api_key": DEMO_MODEL})
    return Route(model)
