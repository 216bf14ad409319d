"""Settings of the SSE gateway, from the environment."""

from pydantic import Field

from shared.runtime.settings import EkidenSettings, StoreSettings, TokenSettings


class Settings(EkidenSettings, StoreSettings, TokenSettings):
    """What an operator may set."""

    ops_port: int = Field(9102, ge=1, le=65535)
    #: Where the gateway listens. On loopback unless told otherwise.
    gateway_host: str = "127.0.0.1"
    gateway_port: int = Field(8081, ge=1, le=65535)
    #: Connections the kernel may hold before they are accepted: a restart brings all clients back at once.
    backlog: int = Field(4096, ge=1)
    #: Origins that browsers may read from, separated by commas; empty for the page's own, on the API's port.
    allowed_origins: str = ""
    http_port: int = Field(8080, ge=1, le=65535)

    #: Seconds between two pings, from the first byte on. Proxies cut what is silent for 60 s.
    ping_seconds: float = Field(15, gt=0, le=3600)
    #: Seconds after which a connection is ended with `reconnect`; the client comes back, maybe to another gateway.
    max_connection_seconds: float = Field(300, gt=0)
    #: Bytes that may wait for one subscriber. What is beyond is dropped and read from the log when it has caught up.
    subscriber_buffer_bytes: int = Field(256 * 1024, ge=4096)
    #: Seconds that a subscriber may take nothing before it is closed.
    stalled_seconds: float = Field(20, gt=0)
    #: Seconds of silence after which the log is looked at: a lost publication can only delay.
    look_seconds: float = Field(1.5, gt=0)
    #: Seconds over which all streams are ended after SIGTERM.
    gateway_drain_seconds: float = Field(10, ge=0, le=3600)

    @property
    def origins(self) -> frozenset[str]:
        """The origins of `allowed_origins`."""
        return frozenset(origin.strip() for origin in self.allowed_origins.split(",") if origin.strip())
