"""Fixtures that several kinds of tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from demo.embedded_store import EmbeddedStore
from demo.ports import free_block
from tests.system import System


@pytest.fixture(scope="session")
def embedded_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    """One real Valkey for all integration tests."""
    store = EmbeddedStore(tmp_path_factory.mktemp("store"), free_block(1))
    store.start()
    yield store
    store.stop()


@pytest.fixture
def store_url(embedded_store: EmbeddedStore) -> str:
    """The URL of a store that is running and empty."""
    with redis.Redis.from_url(embedded_store.url) as client:
        client.flushall()
        client.script_flush()
    return embedded_store.url


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
