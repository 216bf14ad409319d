"""The client of Redis for threads, set up on purpose, and the one place where Redis's errors become ours.

`pipelined.py` has the client for event loops.

Deliberate:

1. A lost connection is tried once more, at once: a pooled connection may have died while idle. A time-out is
   not, so that a frozen store costs one time-out and not several. All that is sent twice may be sent twice: the
   scripts know a reply that was lost from a call that never came.
2. A pool that is used up makes callers wait, not fail.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.retry import Retry

from shared.contracts.errors import StoreUnavailable

#: What redis-py raises when the store is away, too slow, or refuses to write for now.
TRANSIENT: tuple[type[Exception], ...] = (
    redis.ConnectionError,
    redis.TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    OutOfMemoryError,
    AuthenticationError,
    NoPermissionError,
    OSError,
)

#: Replies that mean the same but have no class of their own in redis-py.
_TRANSIENT_REPLIES = (
    "NOREPLICAS",
    "MISCONF",
    "CLUSTERDOWN",
    "MASTERDOWN",
    "TRYAGAIN",
    "LOADING",
    "OOM",
    "READONLY",
    "NOAUTH",
    "WRONGPASS",
    "NOPERM",
)


def connect(url: str, *, pool_size: int, timeout_seconds: float, retries: int = 1) -> redis.Redis:
    """A client for threads. Nothing is sent yet. Raises ValueError on a URL that is none.

    `retries` 0 is for a client whose commands must not be sent twice: a consumer's fetch.
    """
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=pool_size,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), retries, supported_errors=(redis.ConnectionError,)),
        health_check_interval=0,
    )
    return redis.Redis(connection_pool=pool)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turn what redis-py raises when the store cannot serve into StoreUnavailable; let bugs through."""
    try:
        yield
    except TRANSIENT as error:
        raise StoreUnavailable from error
    except ResponseError as error:
        if is_transient(error):
            raise StoreUnavailable from error
        raise


def is_transient(error: Exception) -> bool:
    """Whether the same command may succeed later without anything being changed in it."""
    if isinstance(error, TRANSIENT):
        return True
    return isinstance(error, RedisError) and str(error).startswith(_TRANSIENT_REPLIES)
