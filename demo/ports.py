"""Ports of `make run`: read from the environment, checked before anything starts, found free for tests."""

import errno
import random
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from demo.fault import RunFault

#: Where tests look for free ports: below Linux's range for outgoing connections (32768-60999), so that
#: no client takes one between the look and the use.
TEST_PORTS = range(20000, 30000)

#: A listener on this machine answers a connect at once; anything slower is not there.
CONNECT_TIMEOUT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """A port that a process of `make run` will listen on, and the setting that moves it."""

    number: int
    host: str
    service: str
    setting: str

    def __str__(self) -> str:
        return f"port {self.number} ({self.service}, {self.setting})"


def check_ports(ports: Iterable[Port]) -> None:
    """Make sure that every port can be listened on; all that cannot are told in one RunFault."""
    wanted: dict[int, Port] = {}
    for port in ports:
        if port.number in wanted:
            raise RunFault(f"{wanted[port.number]} and {port} are the same port: set one of them")
        wanted[port.number] = port
    taken = [str(port) for port in wanted.values() if _is_taken(port)]
    if taken:
        raise RunFault(f"already in use: {', '.join(taken)}; stop what listens there, or set other ports")


def free_block(size: int) -> int:
    """The first of `size` consecutive ports of 127.0.0.1 that nobody listens on; for tests."""
    for _ in range(200):
        first = random.randrange(TEST_PORTS.start, TEST_PORTS.stop - size)
        block = range(first, first + size)
        if not any(_is_taken(Port(number=n, host="127.0.0.1", service="", setting="")) for n in block):
            return first
    raise RuntimeError(f"no {size} consecutive free ports in {TEST_PORTS}")


def _is_taken(port: Port) -> bool:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            port.host, port.number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise RunFault(f"{port.service} cannot listen on {port.host!r}: {error.strerror}") from None
    with socket.socket(family, kind, protocol) as listener:
        # As servers do, or the connections of a run that has just ended would count as "in use".
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return True
            raise RunFault(f"{port} cannot be listened on at {port.host}: {error.strerror}") from None
    # On macOS a bind succeeds beside a listener on another address of the same port.
    with socket.socket(family, kind, protocol) as client:
        client.settimeout(CONNECT_TIMEOUT_SECONDS)
        return client.connect_ex(address) == 0
