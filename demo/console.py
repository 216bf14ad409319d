"""The terminal of `make run`: lines with the name of who wrote them, and one line of progress below them."""

import os
import threading
import time
from typing import TextIO

#: Colours of the names, in the order in which names appear: ANSI cyan, green, yellow, blue, magenta.
COLOURS = (36, 32, 33, 34, 35)

#: Without a terminal there is no line to update, so progress becomes a line every so often.
PROGRESS_LINE_SECONDS = 5.0

#: Back to the first column, and clear to the end of the line.
CLEAR_LINE = "\r\033[K"


class Console:
    """Writes whole lines from any thread. A terminal that goes away (`make run | head`) is not a fault."""

    def __init__(self, out: TextIO, width: int) -> None:
        """`width`: columns for the name before each line."""
        self._out = out
        self._width = width
        self._is_terminal = out.isatty()
        self._has_colour = self._is_terminal and not os.environ.get("NO_COLOR")
        self._colours: dict[str, int] = {}
        self._progress = ""
        self._next_progress_line = 0.0
        self._lock = threading.Lock()

    def line(self, text: str, name: str = "") -> None:
        """Write a line above the progress; with the name of the process whose line it is."""
        with self._lock:
            self._write((self._prefix(name) if name else "") + text + "\n")

    def progress(self, text: str) -> None:
        """Say what is awaited now; replaces what was said before. Empty when nothing is."""
        with self._lock:
            if self._is_terminal:
                self._progress = text
                self._write("")
            elif text and time.monotonic() >= self._next_progress_line:
                self._next_progress_line = time.monotonic() + PROGRESS_LINE_SECONDS
                self._write(text + "\n")

    def _write(self, text: str) -> None:
        if self._is_terminal:
            text = CLEAR_LINE + text + self._progress
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):  # closed pipe, vanished terminal, closed file
            pass

    def _prefix(self, name: str) -> str:
        prefix = f"{name:<{self._width}} | "
        if not self._has_colour:
            return prefix
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        return f"\033[{colour}m{prefix}\033[0m"
