"""A child process of `make run`: started on a leash, told apart by name, stopped for certain.

Reads nothing; writes each child's log file, which the child itself fills and `log_follower` shows.

Deliberate:
1. Not honcho: its Manager starts everything at once, puts a forked Python that ignores SIGTERM between itself
   and each child (so a SIGKILL of the manager orphans all of them), stops all at once, knows no readiness and
   copies output only to its printer.
2. A child writes into its log file, not into a pipe to us. A paused terminal then stalls no service, and if
   we are killed the children can still log while they shut down; a broken pipe would stop them half-way.
3. Each child leads a session of its own: Ctrl-C in the terminal reaches only us, so that we decide the order,
   and what a child leaves behind (gunicorn's workers) can be ended as its process group.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from demo import leash

#: From SIGTERM to SIGKILL. Enough for the services' own drain, short enough to wait for at a prompt.
STOP_GRACE_SECONDS = 8.0

#: How often exits and signals are looked for: not felt at a prompt, no load when idle.
POLL_SECONDS = 0.1


class Child:
    """One process, its environment and its log file. May be started again after it has ended."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._is_swept = False

    def start(self, keep_open: Sequence[int] = ()) -> None:
        """Start it with an empty log file; from the main thread (see `leash`).

        `keep_open` are file descriptors that the process holds for as long as it lives, as a lock does.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_bytes(b"")
        self._is_swept = False
        # Appending, so that several processes can write and the file can be emptied while they do.
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                _on_a_leash(self._command),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=keep_open,
            )

    @property
    def pid(self) -> int:
        """The process, and its session and process group too. Only after `start`."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def is_running(self) -> bool:
        """Whether it was started and has not ended. When it has, so has everything it started."""
        if self._process is None or self._is_swept:
            return False
        if self._process.poll() is None:
            return True
        self._is_swept = True
        self._kill_group()
        return False

    def how_it_ended(self) -> str:
        """For a message: `exit status 3` or `SIGKILL`. Only after it has ended."""
        assert self._process is not None, f"{self.name} was not started"
        assert self._process.returncode is not None, f"{self.name} still runs"
        status = self._process.returncode
        if status >= 0:
            return f"exit status {status}"
        try:
            return signal.Signals(-status).name
        except ValueError:  # real-time signals have numbers only
            return f"signal {-status}"

    def terminate(self) -> None:
        """Ask it to end. Nothing happens if it has."""
        if self.is_running():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it and everything it started, at once. Nothing happens if it has ended."""
        if self._process is not None and self.is_running():
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        # Nothing may be left of it; macOS says EPERM when only zombies are.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def stop(
    children: Sequence[Child],
    is_hurried: Callable[[], bool] = lambda: False,
    grace_seconds: float = STOP_GRACE_SECONDS,
) -> None:
    """End children side by side: SIGTERM, then SIGKILL after the grace or as soon as there is a hurry."""
    deadline = time.monotonic() + grace_seconds
    for child in children:
        child.terminate()
    while any(child.is_running() for child in children):
        if time.monotonic() > deadline or is_hurried():
            break
        time.sleep(POLL_SECONDS / 2)
    for child in children:
        child.kill()


def _on_a_leash(command: list[str]) -> list[str]:
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), *command]
