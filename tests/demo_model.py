"""The demo model in a process of its own, for tests that talk to it without the rest of Ekiden."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

PROJECT = Path(__file__).parents[1]

#: How long anything may take here that should take no time at all, in seconds.
PATIENCE_SECONDS = 10.0

#: Text that breaks naive readers of lines and of characters.
NASTY_TEXT = (
    'She said: "no"\\n\\ \n\r\n\ttab \u2028\u2029\x85\x0b\x1c'
    "\n\nevent: completed\ndata: [DONE]\n\n"
    "\N{FAMILY}\N{ZERO WIDTH JOINER}\U0001f469\U0001f3fd e\u0301 駅伝 \x00\x7f aaaaaaaaaaaaaaaaaaaaaaaa "
)


@dataclass
class RunningModel:
    """A server that listens, and the line in which it said so."""

    process: subprocess.Popen[str]
    announcement: str

    @property
    def url(self) -> str:
        return self.announcement.rsplit(" ", 1)[1].removesuffix("/v1\n")


@contextmanager
def running_model(*arguments: str) -> Iterator[RunningModel]:
    """A demo model of one's own, killed in the end."""
    command = [sys.executable, "-m", "demo.model", "--port", "0", *arguments]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    with process.stdout, process.stderr:
        try:
            yield RunningModel(process, process.stdout.readline())
        finally:
            process.kill()
            process.wait(PATIENCE_SECONDS)


def stats_of(client: httpx.Client) -> dict[str, int]:
    """What the server counts."""
    stats: dict[str, int] = client.get("/stats").json()
    return stats


def stats_at_rest(client: httpx.Client) -> dict[str, int]:
    """The stats once every client that has left was noticed, those of earlier tests included."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (stats := stats_of(client))["open_connections"] and time.monotonic() < deadline:
        pass  # each look is a request of its own, which gives the server its turn
    return stats


def read_until_error(response: httpx.Response) -> tuple[bytes, httpx.TransportError]:
    """What came before the error, which `response.read()` would throw away."""
    raw = b""
    try:
        for part in response.iter_raw():
            raw += part
    except httpx.TransportError as error:
        return raw, error
    raise AssertionError("the answer ended well")


def frames_of(raw: bytes) -> list[bytes]:
    """Cut at the blank line only: reading by str.splitlines would cut at U+2028 as well."""
    assert raw.endswith(b"\n\n")
    return raw.removesuffix(b"\n\n").split(b"\n\n")
