"""Shows on the console what the processes of `make run` append to their log files."""

import os
import threading
from pathlib import Path
from typing import BinaryIO

from demo.console import Console

#: How far the console may lag behind the files.
POLL_SECONDS = 0.05

#: Read at most this much of one file at a time, so that a chatty process does not hide the others.
CHUNK_BYTES = 64 * 1024


class LogFollower:
    """One thread over all log files. `close` shows what is left and ends it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._files: dict[str, BinaryIO] = {}
        self._unfinished: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log-follower", daemon=True)
        self._thread.start()

    def follow(self, name: str, log: Path) -> None:
        """Show this file's lines from its first, under this name."""
        with self._lock:
            self._files[name] = log.open("rb")

    def catch_up(self) -> None:
        """Show now what the files hold now."""
        with self._lock:
            for name, file in self._files.items():
                while self._show_more(name, file):
                    pass

    def close(self) -> None:
        """Show the rest, an unfinished last line too. After the processes have ended."""
        self._closing.set()
        self._thread.join()
        self.catch_up()
        with self._lock:
            for name, file in self._files.items():
                if rest := self._unfinished.get(name):
                    self._console.line(rest.decode(errors="replace"), name)
                file.close()
            self._files.clear()

    def _run(self) -> None:
        while not self._closing.wait(POLL_SECONDS):
            with self._lock:
                for name, file in self._files.items():
                    self._show_more(name, file)

    def _show_more(self, name: str, file: BinaryIO) -> bool:
        """Show the next chunk's whole lines; False at the end of the file."""
        if os.fstat(file.fileno()).st_size < file.tell():  # somebody emptied it
            file.seek(0)
        chunk = file.read(CHUNK_BYTES)
        *lines, self._unfinished[name] = (self._unfinished.get(name, b"") + chunk).split(b"\n")
        for line in lines:
            self._console.line(line.decode(errors="replace").rstrip("\r"), name)
        return bool(chunk)
