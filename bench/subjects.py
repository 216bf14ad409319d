"""Who is measured: Ekiden, the old design, and litellm alone, each as real processes on free ports of 127.0.0.1.

All ask the same demo model, which Ekiden's system brings along. Each relay has a store of its own: Ekiden's writes what
it holds to disk, as it does in production; the old design's does not.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from bench.answers import Ask, Batch
from bench.client import ANSWER_SECONDS, Visitor, ask_at_once
from demo.embedded_store import EmbeddedStore
from demo.environment import without_model_keys
from demo.ports import free_block
from demo.processes import Child, stop
from demo.readiness import answers_ok
from tests.patience import wait_until
from tests.system import System

#: Seconds until a peer is ready. litellm's import takes 4 s, with its first call in four processes at once 8 s.
READY_SECONDS = 60.0

#: Answers that the old design's worker carries at a time: Celery's default is one process a core; it had four.
CELERY_PROCESSES = 4

#: What each of them logs once it may be asked. As in `celery_flask/worker.py`, whose import would bring litellm here.
WARM = "litellm is warm"

#: Streams that its web server carries at a time: each holds a thread, and fifty come at once.
FLASK_THREADS = 64

#: Seconds that Flask's server keeps idle connections, as Ekiden's API does.
KEEP_ALIVE_SECONDS = 75

#: The longest line that litellm alone answers, in bytes: fifty answers of some kilobytes.
LINE_BYTES = 16 * 1024 * 1024


class Subject(Protocol):
    """Something that answers. `children` are its processes by what they do, `worker` the one that calls the model."""

    name: str
    worker: str

    @property
    def children(self) -> dict[str, Child]: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    async def ask(self, asked: Ask) -> Batch: ...

    def disconnect(self) -> None: ...


class Relay:
    """What subjects that answer over HTTP share: fifty at once are fifty new visitors, one at a time is always one."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self._url = url
        self._regular = Visitor()

    async def ask(self, asked: Ask) -> Batch:
        """POST so many messages at once and read all answers."""
        if asked.at_once == 1:
            return await ask_at_once([self._regular], self._url, asked)
        visitors = [Visitor() for _ in range(asked.at_once)]
        try:
            return await ask_at_once(visitors, self._url, asked)
        finally:
            for visitor in visitors:
                visitor.close()

    def disconnect(self) -> None:
        """Let the connections go that are kept from one asking to the next; on the event loop that asked."""
        self._regular.close()
        self._regular = Visitor()


class Ekiden(Relay):
    """The whole system with one llm_worker, as `make run` has it."""

    worker = "llm_worker"

    def __init__(self, directory: Path) -> None:
        self._system = System(directory / "ekiden")
        self.model = self._system.demo
        self.model_url = f"http://127.0.0.1:{self._system.demo_port}/v1"
        super().__init__("Ekiden", f"http://127.0.0.1:{self._system.http_port}/api/async/chat/stream")

    @property
    def children(self) -> dict[str, Child]:
        """All processes but the demo model."""
        system = self._system
        return {
            "api": system.api,
            "llm_worker": system.workers[0],
            "sse_gateway": system.gateway,
            "store": system.store.child,
        }

    def start(self) -> None:
        """Start all and wait until all of it is ready; from the main thread."""
        self._system.start()

    def stop(self) -> None:
        """Stop all."""
        self._system.stop()


class OldDesign(Relay):
    """Celery, Flask and Redis Pub/Sub."""

    worker = "celery"

    def __init__(self, directory: Path, model_url: str) -> None:
        port = free_block(2)
        self._port = port
        self._store = EmbeddedStore(directory / "old" / "store", port + 1)
        environment = _environment(PEER_STORE_URL=self._store.url, PEER_MODEL_URL=model_url)
        web = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gthread"]
        web += ["--threads", str(FLASK_THREADS), "--keep-alive", str(KEEP_ALIVE_SECONDS), "--no-control-socket"]
        web += ["bench.peers.celery_flask.web:create_app()"]
        worker = [sys.executable, "-m", "celery", "--app", "bench.peers.celery_flask.worker", "worker"]
        worker += ["--concurrency", str(CELERY_PROCESSES), "--without-gossip", "--without-mingle", "--loglevel", "INFO"]
        self._web = Child("flask", web, environment, directory / "flask.log")
        self._worker = Child("celery", worker, environment, directory / "celery.log")
        super().__init__("old design", f"http://127.0.0.1:{port}/chat/stream")

    @property
    def children(self) -> dict[str, Child]:
        """All processes."""
        return {"flask": self._web, "celery": self._worker, "store": self._store.child}

    def start(self) -> None:
        """Start all and wait until all of it is ready; from the main thread."""
        self._store.start()
        self._web.start()
        self._worker.start()
        _await_ready(self._web, lambda: answers_ok(self._port, "/healthz"))
        _await_ready(self._worker, lambda: self._worker.log.read_text().count(WARM) >= CELERY_PROCESSES)

    def stop(self) -> None:
        """Stop all."""
        stop([self._web, self._worker])
        self._store.stop()


class LitellmAlone:
    """The ceiling: the same calls to the model in one process, and nothing else."""

    worker = "litellm"

    def __init__(self, directory: Path, model_url: str) -> None:
        self.name = "litellm alone"
        self._port = free_block(1)
        command = [sys.executable, "-m", "bench.peers.litellm_alone", str(self._port), model_url]
        self._child = Child("litellm", command, _environment(), directory / "litellm.log")

    @property
    def children(self) -> dict[str, Child]:
        """Its one process."""
        return {"litellm": self._child}

    def start(self) -> None:
        """Start it and wait until it is ready; from the main thread."""
        self._child.start()
        _await_ready(self._child, lambda: _accepts(self._port))

    def stop(self) -> None:
        """Stop it."""
        stop([self._child])

    def disconnect(self) -> None:
        """No connection is kept."""

    async def ask(self, asked: Ask) -> Batch:
        """Have it ask the model, and tell what came of it."""
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=LINE_BYTES)
            try:
                writer.write(msgspec.json.encode(asked) + b"\n")
                return msgspec.json.decode(await reader.readline(), type=Batch)
            finally:
                writer.close()


def _await_ready(child: Child, is_ready: Callable[[], bool]) -> None:
    wait_until(lambda: is_ready() or not child.is_running(), READY_SECONDS, child.name)
    if not child.is_running():
        raise RuntimeError(f"{child.name} ended with {child.how_it_ended()}:\n{child.log.read_text()}")


def _accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _environment(**more: str) -> dict[str, str]:
    return without_model_keys(os.environ) | {"PYTHONUNBUFFERED": "1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"} | more
