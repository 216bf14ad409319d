"""Fixtures that several kinds of tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from demo.embedded_store import EmbeddedStore
from demo.ports import free_block
from tests.redis_container import redis_container
from tests.system import System

# As in shared/providers: a test may import litellm first, which then asks the network for a price list.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--store redis:8.0` runs the integration tests on a container of that image."""
    parser.addoption("--store", default="embedded", help="`embedded`, or the image of a Redis server")


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real server for all integration tests."""
    image = request.config.getoption("--store")
    if image != "embedded":
        with redis_container(image) as url:
            yield url
        return
    store = EmbeddedStore(tmp_path_factory.mktemp("store"), free_block(1))
    store.start()
    yield store.url
    store.stop()


@pytest.fixture
def store_url(server_url: str) -> str:
    """The URL of a store that is running and empty."""
    with redis.Redis.from_url(server_url) as client:
        client.flushall()
        client.script_flush()
    return server_url


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole relay, for tests that leave it as they found it."""
    running = System(tmp_path_factory.mktemp("system"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
def own_system(tmp_path: Path) -> Iterator[System]:
    """A relay of the test's own, with short leases and two workers, for tests that break it."""
    running = System(tmp_path, workers=2, settings={"EKIDEN_LEASE_SECONDS": "2"})
    running.start()
    yield running
    running.stop()
