"""One stack for all container tests: they leave every service running."""

from collections.abc import Iterator

import pytest

from tests.containers.stack import Stack


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole relay in containers, all healthy."""
    running = Stack()
    try:
        running.start()
        yield running
    finally:
        running.stop()
