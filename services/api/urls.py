"""The addresses that the API gives to clients."""

from typing import Final

import falcon

from services.api.schemas import Urls
from services.api.settings import Settings

#: In front of every path of the API.
PREFIX: Final = "/api/async"


def task_urls(task_id: str) -> Urls:
    """Where a task, its events and its Stop are."""
    here = f"{PREFIX}/tasks/{task_id}"
    return Urls(self_=here, events=f"{here}/events", cancel=f"{here}/cancel")


def gateway_origin(req: falcon.Request, settings: Settings) -> str:
    """The gateway as this client reaches it, without a slash at the end."""
    if settings.gateway_public_url:
        return settings.gateway_public_url
    host = req.host if ":" not in req.host else f"[{req.host}]"
    return f"{req.scheme}://{host}:{settings.gateway_port}"
