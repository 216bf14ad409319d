"""The names of models that clients may ask for."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

#: The model that runs without a key: demo/model, or `demo/<behaviour>`.
DEMO_MODEL: Final = "demo"


def is_demo(model: str) -> bool:
    """Whether a model is the demo model in one of its behaviours."""
    return model == DEMO_MODEL or model.startswith(f"{DEMO_MODEL}/")


def is_allowed(model: str, patterns: Iterable[str]) -> bool:
    """Whether a model matches one of the patterns, such as `openai/*`. Case counts."""
    return any(fnmatchcase(model, pattern) for pattern in patterns)
