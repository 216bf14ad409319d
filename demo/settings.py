"""The settings of `make run`, read from the environment once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from demo.fault import RunFault

#: Services with an ops port, in the order of their ports: EKIDEN_OPS_PORT + 1, + 2, + 3.
SERVICES = ("api", "sse_gateway", "llm_worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where everything listens and keeps its files."""

    http_host: str
    http_port: int
    gateway_host: str
    gateway_port: int
    demo_port: int
    store_port: int
    #: Set: that store is used and none is started.
    store_url: str | None
    ops_port_base: int
    run_directory: Path
    log_directory: Path

    def ops_port(self, service: str) -> int:
        """The service's port for /livez, /readyz and /metrics."""
        return self.ops_port_base + 1 + SERVICES.index(service)

    @property
    def address(self) -> str:
        """Where a browser on this machine finds the page."""
        host = self.http_host
        if host in ("127.0.0.1", "0.0.0.0", "::", "::1", ""):
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.http_port}"


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read all; RunFault for what is not a port."""

    def port(name: str, default: int, highest: int = 65535) -> int:
        text = environment.get(name) or str(default)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= highest):
            raise RunFault(f"{name}={text} is not a port: a number from 1 to {highest} is expected")
        return int(text)

    return Settings(
        http_host=environment.get("EKIDEN_HTTP_HOST") or "127.0.0.1",
        http_port=port("EKIDEN_HTTP_PORT", 8080),
        gateway_host=environment.get("EKIDEN_GATEWAY_HOST") or "127.0.0.1",
        gateway_port=port("EKIDEN_GATEWAY_PORT", 8081),
        demo_port=port("EKIDEN_DEMO_PORT", 8082),
        store_port=port("EKIDEN_STORE_PORT", 6390),
        store_url=environment.get("EKIDEN_STORE_URL") or None,
        ops_port_base=port("EKIDEN_OPS_PORT", 9100, highest=65535 - len(SERVICES)),
        run_directory=Path(environment.get("EKIDEN_RUN_DIR") or ".run"),
        log_directory=Path(environment.get("EKIDEN_LOG_DIR") or "logs"),
    )
