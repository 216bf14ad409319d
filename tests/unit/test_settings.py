"""Settings are documented as they are, and faults are told all at once."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from services.api.settings import Settings as ApiSettings
from services.feedback_worker.settings import Settings as FeedbackSettings
from services.llm_worker.settings import Settings as WorkerSettings
from services.sse_gateway.settings import Settings as GatewaySettings
from shared.runtime.settings import load

PROJECT = Path(__file__).parents[2]

SETTINGS: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "sse_gateway": GatewaySettings,
    "llm_worker": WorkerSettings,
    "feedback_worker": FeedbackSettings,
}


def defaults(settings: type[BaseSettings]) -> dict[str, str]:
    return {
        f"EKIDEN_{name.upper()}": "" if field.default is PydanticUndefined else str(field.default)
        for name, field in settings.model_fields.items()
    }


@pytest.mark.parametrize("service", SETTINGS)
def test_a_services_readme_lists_its_settings_with_their_defaults(service: str) -> None:
    readme = (PROJECT / "services" / service / "README.md").read_text()

    rows = re.findall(r"^\| `(EKIDEN_\w+)` \| (?:`([^`]*)`|empty|required) \| \S", readme, re.MULTILINE)

    assert dict(rows) == defaults(SETTINGS[service])


def test_the_example_environment_lists_every_setting_with_its_default() -> None:
    example = (PROJECT / ".env.example").read_text()
    every = {name: value for settings in SETTINGS.values() for name, value in defaults(settings).items()}
    every["EKIDEN_OPS_PORT"] = defaults(ApiSettings)["EKIDEN_OPS_PORT"]

    listed = dict(re.findall(r"^(?:# )?(EKIDEN_\w+)=(.*)$", example, re.MULTILINE))

    assert listed == every


#: What compose.yaml leaves alone: ports and addresses inside the containers, and the secret, which is a file there.
INSIDE = {
    "EKIDEN_GATEWAY_PORT",
    "EKIDEN_GATEWAY_PUBLIC_URL",
    "EKIDEN_HTTP_PORT",
    "EKIDEN_OPS_HOST",
    "EKIDEN_OPS_PORT",
    "EKIDEN_TOKEN_SECRET",
}


@pytest.mark.parametrize("service", SETTINGS)
def test_the_containers_are_passed_every_setting_of_their_service(service: str) -> None:
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]

    passed = {name for name in services[service]["environment"] if name.startswith("EKIDEN_")}

    assert passed == set(defaults(SETTINGS[service])) - INSIDE


def test_all_faults_are_told_in_one_message_that_holds_no_value() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")}
    wrong = {"EKIDEN_STORE_URL": "http://user:hunter2@host", "EKIDEN_HTTP_PORT": "x", "EKIDEN_TOKEN_SECRET": "hunter2"}

    done = subprocess.run(
        [sys.executable, "-m", "services.api"],
        env=environment | wrong,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.returncode == 1
    assert all(f"{name}: " in done.stderr for name in wrong)
    assert "hunter2" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_what_the_environment_does_not_set_is_read_from_a_file_among_the_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ekiden_token_secret").write_text("a secret that came as a file, 32 bytes\n")
    monkeypatch.delenv("EKIDEN_TOKEN_SECRET", raising=False)

    from_file = load(GatewaySettings, secrets=tmp_path)
    monkeypatch.setenv("EKIDEN_TOKEN_SECRET", "a secret of the environment, 32 bytes")
    from_environment = load(GatewaySettings, secrets=tmp_path)

    assert from_file.token_secret.get_secret_value() == "a secret that came as a file, 32 bytes"
    assert from_environment.token_secret.get_secret_value() == "a secret of the environment, 32 bytes"


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="EKIDEN_SOFT_LIMIT_SECONDS"):
        WorkerSettings(soft_limit_seconds=200, hard_limit_seconds=180)
    with pytest.raises(ValueError, match="EKIDEN_MODELS"):
        ApiSettings(default_model="openai/gpt", token_secret="x" * 32)
