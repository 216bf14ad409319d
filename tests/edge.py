"""The project's Nginx configuration, run by the Nginx of this machine in front of a relay of real processes."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from demo.ports import free_block
from demo.processes import Child, stop
from demo.readiness import answers_ok
from tests.event_stream import Client, SeenEvent, read_events
from tests.needs import program
from tests.patience import wait_until
from tests.system import System, read_to_end

EDGE = Path(__file__).resolve().parents[1] / "edge"

#: For a System that is to stand behind an edge.
BEHIND_THE_EDGE = {"EKIDEN_HANDOFF": "accel"}


class Edge:
    """A running Nginx, as clients see it. Its HTTP client follows no redirects: there must be none."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)

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
def edge_before(relay: System, directory: Path) -> Iterator[Edge]:
    """An edge in front of a relay that runs with BEHIND_THE_EDGE."""
    nginx = program("nginx")
    port = free_block(1)
    _render(directory, port, relay)
    log = directory / "edge.log"
    child = Child("edge", [nginx, "-p", str(directory), "-c", str(directory / "nginx.conf")], os.environ, log)
    child.start()
    edge = Edge(port, log)
    try:
        wait_until(lambda: answers_ok(port, "/") or not child.is_running(), what="the edge")
        assert child.is_running(), log.read_text()
        yield edge
    finally:
        edge.http.close()
        stop([child])


def _render(directory: Path, port: int, relay: System) -> None:
    values = {
        "EKIDEN_EDGE_PORT": str(port),
        "EKIDEN_API_ADDRESS": f"127.0.0.1:{relay.http_port}",
        "EKIDEN_GATEWAY_ADDRESS": f"127.0.0.1:{relay.gateway_port}",
        "EKIDEN_EDGE_RESOLVER": "127.0.0.1",  # asked for nothing: these addresses are numbers
    }
    template = (EDGE / "templates" / "ekiden.conf.template").read_text()
    (directory / "conf.d").mkdir(parents=True)
    (directory / "conf.d" / "ekiden.conf").write_text(re.sub(r"\$\{(EKIDEN_\w+)\}", lambda at: values[at[1]], template))
    (directory / "nginx.conf").write_text((EDGE / "nginx.conf").read_text())
