"""Settings of the API, from the environment."""

from typing import Literal

from pydantic import Field, field_validator

from shared.contracts.models import DEMO_MODEL, is_allowed
from shared.runtime.settings import (
    BrokerSettings,
    EkidenSettings,
    LedgerSettings,
    PoolSettings,
    StoreSettings,
    TokenSettings,
)


class Settings(EkidenSettings, StoreSettings, PoolSettings, BrokerSettings, LedgerSettings, TokenSettings):
    """What an operator may set."""

    ops_port: int = Field(9101, ge=1, le=65535)
    #: Where the API listens. On loopback unless told otherwise.
    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=1, le=65535)
    #: Requests at a time. Each waits for the store for a millisecond or two; fewer than the pool has connections.
    http_threads: int = Field(32, ge=1, le=1000)
    #: Seconds that running requests get to end after SIGTERM.
    http_drain_seconds: int = Field(25, ge=1, le=3600)
    #: Bytes of a request's body. A long conversation lives in the session, so a message is short.
    max_body_bytes: int = Field(256 * 1024, ge=1024)

    #: How a client gets from the POST to its stream: `redirect` (303 to the gateway) or `accel` (Nginx in front
    #: goes there by itself, in one round trip).
    handoff: Literal["redirect", "accel"] = "redirect"
    #: The gateway as clients reach it; empty for the request's host and the gateway's port.
    gateway_public_url: str = Field("", pattern="^$|^https?://[^/]+$")
    gateway_port: int = Field(8081, ge=1, le=65535)

    #: How long an events token is good for. Past any wait in the queue and the log's hour after the end.
    events_token_seconds: int = Field(24 * 3600, ge=60)

    #: Models that clients may ask for: patterns, separated by commas.
    models: str = f"{DEMO_MODEL},{DEMO_MODEL}/*"
    #: The model of a request that names none.
    default_model: str = DEMO_MODEL

    @property
    def model_patterns(self) -> list[str]:
        """The patterns of `models`."""
        return [pattern.strip() for pattern in self.models.split(",") if pattern.strip()]

    @field_validator("default_model")
    @classmethod
    def _default_is_allowed(cls, value: str, info: object) -> str:
        patterns = getattr(info, "data", {}).get("models", "")
        if not is_allowed(value, [pattern.strip() for pattern in patterns.split(",")]):
            raise ValueError("the default model is not among EKIDEN_MODELS")
        return value
