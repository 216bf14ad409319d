"""From the API to the gateway, which has the stream: through Nginx in one round trip, or by a redirect."""

import falcon

from services.api.settings import Settings
from services.api.urls import PREFIX, gateway_origin
from shared.runtime.tokens import EventsTokens

#: The edge's internal location that leads to the gateway; edge/ has its other half.
ACCEL_LOCATION = "/_events"


class Handoff:
    """Sends a client to the events of a task."""

    def __init__(self, tokens: EventsTokens, settings: Settings) -> None:
        self._tokens = tokens
        self._settings = settings

    def events_token(self, task_id: str) -> str:
        """A token that opens the task's events and nothing else."""
        return self._tokens.issue(task_id, seconds=self._settings.events_token_seconds)

    def after_post(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        """Answer a POST with the stream: a 303 turns it into a GET."""
        self._send(req, resp, task_id, falcon.HTTP_303)

    def after_get(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        """Answer a GET of the events: a 307 keeps method and headers, Last-Event-ID among them."""
        self._send(req, resp, task_id, falcon.HTTP_307)

    def _send(self, req: falcon.Request, resp: falcon.Response, task_id: str, redirect: str) -> None:
        resp.set_header("X-Task-ID", task_id)
        cursor = req.get_param("last_event_id")
        query = f"token={self.events_token(task_id)}"
        if cursor:
            query += f"&last_event_id={falcon.uri.encode_value(cursor)}"
        if self._settings.handoff == "accel":
            resp.set_header("X-Accel-Redirect", f"{ACCEL_LOCATION}/{task_id}?{query}")
            return
        resp.set_header("Cache-Control", "no-store")
        resp.status = redirect
        resp.location = f"{gateway_origin(req, self._settings)}{PREFIX}/tasks/{task_id}/events?{query}"
