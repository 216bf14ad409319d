"""The README's own commands, run as they stand but for the port and the ids."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.event_stream import read_events
from tests.system import System

README = (Path(__file__).parents[2] / "README.md").read_text()

COMMANDS = re.findall(r"^curl .*$", README, re.MULTILINE)

FOLLOW = "curl localhost:8080/api/async/tasks/TASK_ID"


def run(command: str, system: System, task_id: str = "", last_id: str = "") -> bytes:
    """What a command prints."""
    command = command.replace("localhost:8080", f"localhost:{system.http_port}").replace("TASK_ID", task_id)
    command = re.sub(r"Last-Event-ID: [\d-]+", f"Last-Event-ID: {last_id}", command)
    done = subprocess.run(["bash", "-c", f"{command} -sS --fail"], capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def the_command_with(part: str) -> str:
    [command] = [command for command in COMMANDS if part in command]
    return command


def test_the_readme_has_the_commands_that_are_tested_here() -> None:
    assert len(COMMANDS) == 5
    assert FOLLOW in COMMANDS


def test_the_first_command_shows_a_stream(system: System) -> None:
    printed = run(the_command_with("chat/stream"), system)

    types = [event.type for event in read_events([printed])]
    assert types[:3] == ["created", "started", "delta"]
    assert types[-1] == "completed"


def test_a_message_is_accepted_followed_and_stopped(system: System) -> None:
    accepted = run(the_command_with("Tell me a story"), system)
    task_id = re.search(r'"task_id":"(\w+)"', accepted.decode())[1]  # type: ignore[index]

    followed = run(FOLLOW, system, task_id)
    stopped = run(the_command_with("/cancel"), system, task_id)

    assert task_id in followed.decode()
    assert b'"status":"cancelled"' in stopped


@pytest.mark.parametrize("from_event", [0, 2])
def test_a_stream_is_taken_up_again(system: System, from_event: int) -> None:
    first = list(read_events([run(the_command_with("chat/stream"), system)]))
    task_id, last_id = first[0].data["task_id"], first[from_event].id or ""

    rest = list(read_events([run(the_command_with("Last-Event-ID"), system, task_id, last_id)]))

    assert rest == first[from_event + 1 :]
