"""A running Ekiden as a browser reaches it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.edge import Edge
from tests.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`origin` is what a person types; `streams_origin` is where the answers come from."""

    system: System
    origin: str
    streams_origin: str

    @contextmanager
    def silent_model(self) -> Iterator[None]:
        """The model says nothing for as long as the block lasts, so that an answer cannot end in it."""
        os.kill(self.system.demo.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.system.demo.pid, signal.SIGCONT)


def two_ports_of(system: System) -> Site:
    """The page from the API's port, the streams from the gateway's."""
    return Site(
        system=system,
        origin=f"http://127.0.0.1:{system.http_port}",
        streams_origin=f"http://127.0.0.1:{system.gateway_port}",
    )


def behind(edge: Edge, relay: System) -> Site:
    """All of it from the edge."""
    origin = f"http://127.0.0.1:{edge.port}"
    return Site(system=relay, origin=origin, streams_origin=origin)
