"""What each process of `make run` is told through its environment: what we were told, and where all listen.

The token secret is made at the first start and kept in the run directory.
"""

from collections.abc import Mapping

from demo.settings import SERVICES, Settings
from demo.token_secret import token_secret

#: litellm's name of a provider's key -> the models it opens, as EKIDEN_MODELS patterns.
MODELS_BY_KEY = {
    "GEMINI_API_KEY": "gemini/*",
    "OPENAI_API_KEY": "openai/*",
    "ANTHROPIC_API_KEY": "anthropic/*",
}


def environment_of(name: str, settings: Settings, store_url: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of one process. Model keys reach the worker and nobody else."""
    environment = dict(inherited) if name == "llm_worker" else without_model_keys(inherited)
    environment |= {key: value for key, value in _defaults(inherited).items() if not inherited.get(key)}
    environment |= {
        "EKIDEN_HTTP_HOST": settings.http_host,
        "EKIDEN_HTTP_PORT": str(settings.http_port),
        "EKIDEN_GATEWAY_HOST": settings.gateway_host,
        "EKIDEN_GATEWAY_PORT": str(settings.gateway_port),
        "EKIDEN_DEMO_PORT": str(settings.demo_port),
        "EKIDEN_DEMO_URL": f"http://127.0.0.1:{settings.demo_port}/v1",
        "EKIDEN_STORE_URL": store_url,
        "EKIDEN_TOKEN_SECRET": inherited.get("EKIDEN_TOKEN_SECRET")
        or token_secret(settings.run_directory / "token_secret"),
        # Or Python keeps lines back when its output is a file.
        "PYTHONUNBUFFERED": "1",
    }
    if name in SERVICES:
        environment["EKIDEN_OPS_PORT"] = str(settings.ops_port(name))
    return environment


def without_model_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that calls no provider."""
    # EKIDEN_… would be a key to us, not to a provider.
    return {
        name: value
        for name, value in environment.items()
        if not name.endswith("_API_KEY") or name.startswith("EKIDEN_")
    }


def _defaults(inherited: Mapping[str, str]) -> dict[str, str]:
    patterns = [pattern for key, pattern in MODELS_BY_KEY.items() if inherited.get(key)]
    return {
        "EKIDEN_DEFAULT_MODEL": "gemini/gemini-1.5-flash" if inherited.get("GEMINI_API_KEY") else "demo",
        "EKIDEN_MODELS": ",".join(["demo", "demo/*", *patterns]),
        # A person waits at the prompt for Ctrl-C: what is not answered by then goes on at the next start.
        "EKIDEN_WORKER_DRAIN_SECONDS": "2",
        "EKIDEN_GATEWAY_DRAIN_SECONDS": "1",
        "EKIDEN_HTTP_DRAIN_SECONDS": "5",
        # Else litellm's import waits for the network.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
