"""A Redis server of an official image, for tests that otherwise run on the embedded one."""

from collections.abc import Iterator
from contextlib import contextmanager

from testcontainers.core.container import DockerContainer

from demo.readiness import answers_ping
from tests.patience import wait_until

PORT = 6379


@contextmanager
def redis_container(image: str) -> Iterator[str]:
    """A server in a container of its own, removed at the end; yields its URL."""
    with DockerContainer(image).with_exposed_ports(PORT) as container:
        url = f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(PORT)}/0"
        wait_until(lambda: answers_ping(url), what=image)
        yield url
