"""Settings that several services share, and how any service reads its own.

Every setting is an environment variable `EKIDEN_<FIELD>`. They are read once, when a process starts, and all
faults are told in one message before a port is bound.
"""

import sys
from pathlib import Path
from typing import Final, TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

#: Where containers are given secrets as files. What the environment does not set is read there, from a file of the
#: variable's name in small letters: `ekiden_token_secret`.
SECRETS_DIRECTORY: Final = Path("/run/secrets")


class FromEnvironment(BaseSettings):
    """How every setting is read: frozen, and prefixed. An empty variable is one that is not set."""

    model_config = SettingsConfigDict(env_prefix="EKIDEN_", env_ignore_empty=True, frozen=True, extra="ignore")


class EkidenSettings(FromEnvironment):
    """What every service has: its log level and the port for probes and metrics."""

    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    #: Probes and /metrics listen here. On loopback unless a container says otherwise: they never pass the edge.
    ops_host: str = "127.0.0.1"


class StoreSettings(FromEnvironment):
    """Where the store is, and how long to wait for it."""

    #: Sessions, tasks, logs.
    store_url: str = Field("redis://127.0.0.1:6379/0", pattern="^(redis|rediss)://")
    #: Seconds until a command that the store does not answer counts as lost. Below the 2 s in which the API
    #: promises its 503.
    store_timeout_seconds: float = Field(1.5, gt=0, le=60)


class PoolSettings(FromEnvironment):
    """How many threads may talk to Redis at the same time."""

    #: Connections of one process to store and to broker. 50 carry the API's 32 threads, and the acks of a worker's
    #: 256, with room to spare; past that a caller waits for a connection instead of failing.
    redis_pool_size: int = Field(50, ge=2, le=10_000)


class BrokerSettings(FromEnvironment):
    """Where Dramatiq's queues are."""

    #: Dramatiq's Redis; empty for the store's. Two servers in production: Dramatiq's maintenance runs KEYS.
    broker_url: str = Field("", pattern="^$|^(redis|rediss)://")


class LedgerSettings(FromEnvironment):
    """How long things in the ledger live and when they are looked at."""

    #: A worker that has not renewed for this long has lost its tasks. 10 s and a sweep of 1 s keep the promise that
    #: a killed worker's task goes on within 12 s; four missed renewals still fit in.
    lease_seconds: float = Field(10, gt=0, le=600)
    #: Workers that one task may kill before it is given up.
    max_crashes: int = Field(3, ge=1, le=100)
    #: A job should be claimed at once; after this long the sweep makes sure that it exists.
    first_look_seconds: float = Field(2, gt=0, le=60)
    #: The sweep looks at a waiting task after twice the time it last waited, up to this: no storm of jobs.
    max_look_seconds: float = Field(60, gt=0, le=3600)
    #: A log stays readable for this long after its task's end.
    log_ttl_seconds: int = Field(3600, ge=1)
    #: A session, and with it its tasks and their answers, lives this long after its last message.
    session_ttl_seconds: int = Field(30 * 24 * 3600, ge=1)

    @property
    def lease_ms(self) -> int:
        """The lease in milliseconds, as the scripts take it."""
        return round(self.lease_seconds * 1000)

    @property
    def first_look_ms(self) -> int:
        """The first look in milliseconds."""
        return round(self.first_look_seconds * 1000)

    @property
    def max_look_ms(self) -> int:
        """The longest time between looks in milliseconds."""
        return round(self.max_look_seconds * 1000)

    @property
    def log_ttl_ms(self) -> int:
        """The log's life after the end in milliseconds."""
        return self.log_ttl_seconds * 1000

    @property
    def task_ttl_ms(self) -> int:
        """A task's life after its end in milliseconds: the session's."""
        return self.session_ttl_seconds * 1000

    @property
    def session_ttl_ms(self) -> int:
        """A session's life in milliseconds."""
        return self.session_ttl_seconds * 1000


class TokenSettings(FromEnvironment):
    """The secret that API and gateway share for events tokens."""

    #: At least 32 bytes, the same for both. There is no default: a known secret is none.
    token_secret: SecretStr = Field(min_length=32)


S = TypeVar("S", bound=BaseSettings)


def load(settings_type: type[S], *, secrets: Path = SECRETS_DIRECTORY) -> S:
    """Read a service's settings from the environment, or end the process with one message naming all faults."""
    try:
        return settings_type(_secrets_dir=secrets if secrets.is_dir() else None)
    except ValidationError as error:
        prefix = settings_type.model_config.get("env_prefix", "")
        lines = [f"  {_where(fault['loc'], prefix)}{fault['msg']}" for fault in error.errors()]
        sys.exit("These settings are not right:\n" + "\n".join(lines))


def names_in(listed: str) -> set[str]:
    """The names in a setting that holds several, separated by commas."""
    return {name.strip() for name in listed.split(",") if name.strip()}


def _where(place: tuple[int | str, ...], prefix: str) -> str:
    """The variable a fault is in, as it stands in the environment; nothing where it lies between several."""
    return f"{prefix}{place[0]}: ".upper() if place else ""
