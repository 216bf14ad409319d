"""The whole relay for e2e tests: real processes on free ports, each of which a test may kill and start again."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import redis

from demo.embedded_store import EmbeddedStore
from demo.environment import without_model_keys
from demo.ports import free_block
from demo.processes import Child, stop
from demo.readiness import answers_ok
from tests.event_stream import Client, SeenEvent, read_events
from tests.patience import PATIENCE_SECONDS, wait_until

#: litellm's import takes 4 s; on a busy machine several times that.
READY_SECONDS = 40.0


class System:
    """Store, demo model, API, gateway and one worker or more.

    `settings` are EKIDEN_… variables for all services. `provider_settings` are variables for the workers alone, made
    from the demo model's address: a provider's key and base. `model_names` are what the demo model is called.
    """

    def __init__(
        self,
        directory: Path,
        *,
        workers: int = 1,
        settings: dict[str, str] | None = None,
        provider_settings: Callable[[str], dict[str, str]] = lambda demo_url: {},
        model_names: Sequence[str] = ("demo",),
    ) -> None:
        first = free_block(8 + workers)
        self.http_port, self.gateway_port, self.demo_port = first, first + 1, first + 2
        self.store = EmbeddedStore(directory / "store", first + 3, append_only=True)
        self._directory = directory
        outside = {name: value for name, value in os.environ.items() if not name.startswith("EKIDEN_")}
        self._environment = without_model_keys(outside) | {
            "EKIDEN_STORE_URL": self.store.url,
            "EKIDEN_TOKEN_SECRET": "a secret of the tests, 32 bytes and more",
            "EKIDEN_HTTP_PORT": str(self.http_port),
            "EKIDEN_GATEWAY_PORT": str(self.gateway_port),
            "EKIDEN_DEMO_URL": f"http://127.0.0.1:{self.demo_port}/v1",
            "EKIDEN_WORKER_DRAIN_SECONDS": "1",
            "EKIDEN_GATEWAY_DRAIN_SECONDS": "0.5",
            "PYTHONUNBUFFERED": "1",
            **(settings or {}),
        }
        self.ops: dict[str, int] = {}
        names = ",".join(model_names)
        self.demo = self._child("demo_model", "demo.model", None, "--port", str(self.demo_port), "--names", names)
        self.api = self._child("api", "services.api", first + 4)
        self.gateway = self._child("sse_gateway", "services.sse_gateway", first + 5)
        providers = provider_settings(f"http://127.0.0.1:{self.demo_port}")
        self.workers = [
            self._child(f"llm_worker_{n}", "services.llm_worker", first + 6 + n, **providers) for n in range(workers)
        ]
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.http_port}", follow_redirects=True, timeout=30)

    def start(self) -> None:
        """Start everything and wait until all of it is ready; from the main thread."""
        self.store.start()
        for child in self.children:
            child.start()
        for child in self.children:
            self.await_ready(child)

    def stop(self) -> None:
        """Stop everything, services first."""
        self.http.close()
        stop(self.children)
        self.store.stop()

    @property
    def children(self) -> list[Child]:
        """All processes but the store."""
        return [self.demo, self.api, self.gateway, *self.workers]

    def await_ready(self, child: Child) -> None:
        """Return once a process that was started is ready."""
        port, path = (self.demo_port, "/healthz") if child is self.demo else (self.ops[child.name], "/readyz")
        wait_until(lambda: answers_ok(port, path) or not child.is_running(), READY_SECONDS, child.name)
        assert child.is_running(), child.log.read_text()

    def restart(self, child: Child) -> None:
        """Start a process that has ended, and wait until it is ready."""
        child.start()
        self.await_ready(child)

    def post(self, message: str, path: str = "/api/async/chat", **body: Any) -> dict[str, Any]:
        """POST a message that is to be accepted; the 202's body."""
        response = self.http.post(path, json={"message": message, **body})
        assert response.status_code == 202, response.text
        accepted: dict[str, Any] = response.json()
        return accepted

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

    @contextmanager
    def another_gateway(self, **settings: str) -> Iterator["Gateway"]:
        """A gateway of the test's own beside the system's, with settings of its own: it may be killed and restarted."""
        port = free_block(2)
        name = f"sse_gateway_{port}"
        child = self._child(name, "services.sse_gateway", port + 1, EKIDEN_GATEWAY_PORT=str(port), **settings)
        child.start()
        gateway = Gateway(child, port)
        try:
            self.await_ready(child)
            yield gateway
        finally:
            gateway.http.close()
            stop([child])
            del self.ops[name]

    @contextmanager
    def store_client(self) -> Iterator[redis.Redis]:
        """A client of the store, for looking behind the scenes."""
        with redis.Redis.from_url(self.store.url) as client:
            yield client

    def task(self, task_id: str) -> dict[str, Any]:
        """GET a task."""
        response = self.http.get(f"/api/async/tasks/{task_id}")
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    def model_stats(self) -> dict[str, int]:
        """What the demo model counts: open_connections, requests, cancelled."""
        stats: dict[str, int] = self.http.get(f"http://127.0.0.1:{self.demo_port}/stats").json()
        return stats

    def logs(self) -> str:
        """All that the processes have logged since their last start."""
        return "".join(child.log.read_text() for child in self.children)

    def _child(self, name: str, module: str, ops_port: int | None, *arguments: str, **settings: str) -> Child:
        environment = self._environment | settings
        if ops_port is not None:
            environment["EKIDEN_OPS_PORT"] = str(ops_port)
            self.ops[name] = ops_port
        command = [sys.executable, "-m", module, *arguments]
        return Child(name, command, environment, self._directory / f"{name}.log")


class Gateway:
    """A gateway that clients come to without the API, with the token of the 202."""

    def __init__(self, child: Child, port: int) -> None:
        self.child = child
        self.port = port
        self.http = httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=30, limits=httpx.Limits(max_connections=200)
        )

    @contextmanager
    def open(self, accepted: dict[str, Any], last_event_id: str | None = None) -> Iterator[httpx.Response]:
        """The gateway's answer, its body still to be read."""
        headers = {"Authorization": f"Bearer {accepted['events_token']}"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        with self.http.stream("GET", accepted["urls"]["events"], headers=headers) as response:
            yield response

    @contextmanager
    def events(self, accepted: dict[str, Any], last_event_id: str | None = None) -> Iterator[Iterator[SeenEvent]]:
        """The open stream of a task."""
        with self.open(accepted, last_event_id) as response:
            assert response.status_code == 200, response.status_code
            yield read_events(response.iter_raw())

    def read_to_end(self, accepted: dict[str, Any], client: Client | None = None) -> Client:
        """Read a task's events until its terminal one, coming back with the last id whenever the stream ends."""
        return read_to_end(lambda cursor: self.events(accepted, cursor), client or Client())


OpenEvents = Callable[[str | None], AbstractContextManager[Iterator[SeenEvent]]]


def read_to_end(open_events: OpenEvents, client: Client) -> Client:
    """Fold events until the terminal one, coming back with the last id whenever the stream ends."""

    def ended() -> bool:
        try:
            with open_events(client.last_id) as events:
                for event in events:
                    client.take(event)
                    if client.end is not None:
                        return True
        except httpx.TransportError:
            pass  # the gateway is being killed: that is what some tests are for
        return False

    wait_until(ended, 2 * PATIENCE_SECONDS, "the end of a task's events")
    return client
