"""The project's compose.yaml, run under a name and on a port of its own."""

import json
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from demo.ports import free_block
from tests.event_stream import Client, SeenEvent, read_events
from tests.needs import program
from tests.patience import wait_until
from tests.system import read_to_end

PROJECT = Path(__file__).resolve().parents[2]

#: Building everything from nothing, on a slow network.
BUILD_SECONDS = 900

#: One command to containers that are built: a start with its health checks, or a stop with its grace.
COMMAND_SECONDS = 120


class Stack:
    """The containers of one test run. `http` is a client of the edge; it follows no redirects."""

    def __init__(self) -> None:
        self._docker = program("docker")
        self._name = f"ekiden-test-{secrets.token_hex(4)}"
        self._port = free_block(1)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self._port}", timeout=30)

    def start(self) -> None:
        """Build what is not built, start everything, return once all of it is healthy."""
        self.compose("build", "--quiet", seconds=BUILD_SECONDS)
        self.compose("up", "--detach", "--wait")

    def stop(self) -> None:
        """Remove the containers, the networks and the volumes."""
        self.http.close()
        self.compose("down", "--volumes", "--timeout", "5")

    def compose(self, *arguments: str, seconds: float = COMMAND_SECONDS) -> str:
        """What a `docker compose` command prints; it must succeed."""
        return self._run(
            "compose",
            "--project-name",
            self._name,
            "--file",
            str(PROJECT / "compose.yaml"),
            *arguments,
            seconds=seconds,
        )

    def container(self, service: str) -> str:
        """The id of a service's one container, running or not."""
        [container] = self.compose("ps", "--all", "--quiet", service).split()
        return container

    def inspect(self, service: str) -> dict[str, Any]:
        """What Docker knows of a service's container."""
        [known] = json.loads(self._run("inspect", self.container(service), seconds=COMMAND_SECONDS))
        assert isinstance(known, dict)
        return known

    def kill(self, service: str) -> None:
        """End a service's container with SIGKILL."""
        self.compose("kill", "--signal", "SIGKILL", service)

    def run_in(self, service: str, *command: str) -> str:
        """What a command prints inside a service's container; it must succeed."""
        return self.compose("exec", "--no-TTY", service, *command)

    def await_healthy(self, service: str) -> None:
        """Return once a service's container is healthy."""
        wait_until(lambda: self.inspect(service)["State"]["Health"]["Status"] == "healthy", 60, f"{service} is healthy")

    def ask(self, message: str, model: str) -> dict[str, Any]:
        """POST a message that is to be accepted; the 202's body."""
        response = self.http.post("/api/async/chat", json={"message": message, "model": model})
        assert response.status_code == 202, response.text
        accepted: dict[str, Any] = response.json()
        return accepted

    def task(self, task_id: str) -> dict[str, Any]:
        """GET a task."""
        response = self.http.get(f"/api/async/tasks/{task_id}")
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    @contextmanager
    def events(self, task_id: str, last_event_id: str | None = None) -> Iterator[Iterator[SeenEvent]]:
        """The open stream of a task."""
        headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
        with self.http.stream("GET", f"/api/async/tasks/{task_id}/events", headers=headers) as response:
            assert response.status_code == 200, response.status_code
            yield read_events(response.iter_raw())

    def read_to_end(self, task_id: str, client: Client | None = None) -> Client:
        """Read a task's events until its terminal one, coming back with the last id whenever the stream ends."""
        return read_to_end(lambda cursor: self.events(task_id, cursor), client or Client())

    def _run(self, *arguments: str, seconds: float) -> str:
        environment = os.environ | {"EKIDEN_HTTP_PORT": str(self._port)}
        done = subprocess.run(
            [self._docker, *arguments], env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout
