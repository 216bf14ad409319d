"""Is a process ready? A question over HTTP, or PING to the store; never raises, never waits long."""

import http.client

import redis

#: A process that is up answers within this; a slower answer counts as not ready and is asked for again.
ANSWER_TIMEOUT_SECONDS = 1.0


def answers_ok(port: int, path: str) -> bool:
    """Whether `GET http://127.0.0.1:port/path` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def answers_ping(store_url: str) -> bool:
    """Whether the store answers PING; False also while it still loads its data."""
    return why_no_ping(store_url) is None


def why_no_ping(store_url: str) -> str | None:
    """None when the store answers PING, else the reason on one line, without the URL's password."""
    try:
        with redis.Redis.from_url(
            store_url, socket_timeout=ANSWER_TIMEOUT_SECONDS, socket_connect_timeout=ANSWER_TIMEOUT_SECONDS
        ) as store:
            store.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        return " ".join(str(error).split())
    return None
