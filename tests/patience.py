"""Waiting in tests: always for something, never longer than a deadline."""

import time
from collections.abc import Callable

#: How long anything may take in a test before it counts as never, in seconds. Long enough for a busy machine.
PATIENCE_SECONDS = 20.0

#: How often it is looked for.
POLL_SECONDS = 0.01


def wait_until(is_so: Callable[[], object], seconds: float = PATIENCE_SECONDS, what: str = "") -> None:
    """Return as soon as `is_so()` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"still not so after {seconds} s: {what or is_so}"
        time.sleep(POLL_SECONDS)
