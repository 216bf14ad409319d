"""A running Ekiden as a browser reaches it."""

from dataclasses import dataclass

from tests.system import System


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """`origin` is what a person types; `streams_origin` is where the answers come from."""

    system: System
    origin: str
    streams_origin: str


def two_ports_of(system: System) -> Site:
    """The page from the API's port, the streams from the gateway's."""
    return Site(
        system=system,
        origin=f"http://127.0.0.1:{system.http_port}",
        streams_origin=f"http://127.0.0.1:{system.gateway_port}",
    )
