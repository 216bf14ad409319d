"""Wires the gateway as a plain ASGI app."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from services.sse_gateway.cors import Cors
from services.sse_gateway.log_reader import LogReader
from services.sse_gateway.relay import Relay
from services.sse_gateway.resources.events import Events
from services.sse_gateway.settings import Settings
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.tokens import EventsTokens

AsgiApp = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def create_app(settings: Settings, relay: Relay) -> AsgiApp:
    """The ASGI app. The relay runs from the server's start to its end."""
    store = PipelinedClient(settings.store_url, timeout_seconds=settings.store_timeout_seconds)
    events = Events(
        reader=LogReader(store),
        relay=relay,
        tokens=EventsTokens(settings.token_secret.get_secret_value()),
        cors=Cors(settings.origins, settings.http_port),
        settings=settings,
    )

    async def lifespan(receive: Any, send: Any) -> None:
        await receive()
        running = asyncio.create_task(relay.run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await store.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
        else:
            await events(scope, receive, send)

    return app
