"""Serve the demo model: `python -m demo.model --host 127.0.0.1 --port 8082`.

`--names` are the names of models that it answers to, `demo` unless told otherwise; see `behaviour`.

Prints one line when it listens. Port 0 takes a free one, and the line names it. SIGTERM and SIGINT end it
at once with exit code 0; the streams that are open then are cut.
"""

import argparse
import logging
import os
import signal
import socket
from types import FrameType

import uvicorn

from demo.model.app import create_app
from demo.model.behaviour import NAMES

#: Idle connections stay open this long, in seconds: longer than the pools of the usual clients keep theirs,
#: so that no request is sent into a connection that is just being closed.
KEEP_ALIVE_SECONDS = 75

#: How long uvicorn may wait for requests when it stops, in seconds; a net only, their connections are gone.
GRACEFUL_SECONDS = 1


def main() -> None:
    arguments = _parse_arguments()
    logging.getLogger("uvicorn.error").addFilter(_is_no_broken_answer)
    config = uvicorn.Config(
        create_app(arguments.names),
        host=arguments.host,
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    DemoServer(config).run()


class DemoServer(uvicorn.Server):
    """uvicorn, but it says where it listens, and stops without waiting for streams that never end."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        print(f"The demo model listens on http://{f'[{host}]' if ':' in host else host}:{port}/v1", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # to the application it looks as if all clients left, so every request ends the way it always does
        for connection in list(self.server_state.connections):
            if connection.transport is not None:
                connection.transport.abort()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        # uvicorn would keep the signal and raise it again at the end, and the exit code would not be 0
        self.should_exit = True


def _is_no_broken_answer(record: logging.LogRecord) -> bool:
    """Drop uvicorn's complaint about an answer without an end: `cut` means to break it."""
    return record.getMessage() != "ASGI callable returned without completing response."


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.model", description="Serve Ekiden's demo model.")
    parser.add_argument("--host", default=os.environ.get("EKIDEN_DEMO_HOST", "127.0.0.1"))
    # a default that is a string goes through `type` as well, so a bad environment is reported like a bad flag
    parser.add_argument("--port", type=int, default=os.environ.get("EKIDEN_DEMO_PORT", "8082"))
    parser.add_argument("--names", type=lambda names: names.split(","), default=NAMES, metavar="NAME,…")
    return parser.parse_args()


if __name__ == "__main__":
    # before the event loop runs, a signal ends the process here rather than in a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
