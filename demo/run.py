"""`make run`: the whole of Ekiden on this machine, until Ctrl-C.

Reads the settings of `demo/settings.py`; writes the run directory (the store's data, the token secret) and
one log file per process. Exit status 0 after Ctrl-C or SIGTERM, 1 after a fault, which is one line on stderr.
"""

import io
import os
import sys
import time

from demo.console import Console
from demo.fault import RunFault
from demo.lineup import ports, stages
from demo.ports import check_ports
from demo.readiness import why_no_ping
from demo.relay import Relay, StopSignals
from demo.settings import Settings, read_settings

#: For a store that is not ours: long enough for one that was started just before us.
STORE_TIMEOUT_SECONDS = 10.0

#: Columns for the names on the console: `sse_gateway`.
NAME_WIDTH = 11


def main() -> int:
    """Run until a signal or a fault; the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a log line may hold what the terminal cannot show
    console = Console(sys.stdout, NAME_WIDTH)
    signals = StopSignals()
    try:
        settings = read_settings(os.environ)
        check_ports(ports(settings))
        if settings.store_url is not None:
            _await_store(settings.store_url, console, signals)
        _run(settings, console, signals)
    except RunFault as fault:
        print(f"ekiden: {fault}", file=sys.stderr)
        return 1
    except OSError as error:  # a directory that cannot be written, a full disk
        print(f"ekiden: {error.filename or 'make run'}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _run(settings: Settings, console: Console, signals: StopSignals) -> None:
    relay = Relay(stages(settings), console, signals)
    try:
        relay.start()
        if not signals.count:
            _announce(settings, console)
        relay.watch()
    finally:
        relay.stop()


def _announce(settings: Settings, console: Console) -> None:
    url = f"{settings.address}/api/async/chat/stream"
    body = """-H 'Content-Type: application/json' -d '{"message": "Hello"}'"""
    console.line("")
    console.line(f"Ekiden is running: {settings.address}")
    console.line(f"Try it: curl -NL {url} {body}")
    console.line("Stop it: Ctrl-C")
    console.line("")


def _await_store(url: str, console: Console, signals: StopSignals) -> None:
    deadline = time.monotonic() + STORE_TIMEOUT_SECONDS
    while not signals.count and (reason := why_no_ping(url)) is not None:
        if time.monotonic() > deadline:
            raise RunFault(f"the store at EKIDEN_STORE_URL does not answer: {reason}")
        console.progress("waiting for the store at EKIDEN_STORE_URL")
        time.sleep(0.2)
    console.progress("")


if __name__ == "__main__":
    sys.exit(main())
