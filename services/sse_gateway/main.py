"""Runs the gateway on uvicorn, and ends its streams in order before it ends itself.

Deliberate, beside uvicorn's own server: on SIGTERM uvicorn tells nobody and waits for streams that never end. Here
readiness goes off, every stream is told to reconnect at its own moment of the drain time, then the server stops.
"""

import asyncio
from types import FrameType

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.sse_gateway.app import create_app
from services.sse_gateway.relay import Relay
from services.sse_gateway.settings import Settings
from shared.runtime.health import serve_ops

#: Seconds an idle connection is kept: longer than the edge's 60 s, so that the edge is the one to close it.
KEEPALIVE_SECONDS = 75

_log = structlog.get_logger()


class _Protocol(HttpToolsProtocol):
    """Lets a stream cut its connection: a client that takes nothing cannot be closed politely."""

    def on_message_begin(self) -> None:
        """Called by the parser for each request."""
        super().on_message_begin()
        self.scope["state"]["abort"] = self.transport.abort


class GatewayServer(uvicorn.Server):
    """uvicorn's server with a drain."""

    def __init__(self, config: uvicorn.Config, relay: Relay) -> None:
        super().__init__(config)
        self._relay = relay
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        """Called by uvicorn; remembers the loop for the signal handler."""
        self._loop = asyncio.get_running_loop()
        await super().startup()
        _log.info("ready", port=self.config.port)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self._relay.draining or self._loop is None:
            self.should_exit = True
            return
        self._relay.draining = True
        self._loop.call_soon_threadsafe(self._begin_drain)

    def _begin_drain(self) -> None:
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        _log.info("draining", streams=self._relay.count)
        await self._relay.drain()
        _log.info("stopped", streams=self._relay.count)
        self.should_exit = True


def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises OSError where the ops port is taken."""
    relay = Relay(settings)
    config = uvicorn.Config(
        create_app(settings, relay),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=settings.backlog,
        timeout_keep_alive=KEEPALIVE_SECONDS,
        timeout_graceful_shutdown=5,
    )
    server = GatewayServer(config, relay)
    serve_ops(
        settings.ops_host,
        settings.ops_port,
        live={},
        ready={
            "server": lambda: None if server.started else "not_yet",
            "draining": lambda: "draining" if relay.draining else None,
        },
    )
    server.run()
