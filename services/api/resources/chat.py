"""POST /chat and POST /chat/stream: a message comes in."""

import re
from typing import Final

import falcon
import structlog

from services.api.acceptance import Acceptance, AcceptedTask
from services.api.body import read_body
from services.api.handoff import Handoff
from services.api.identity import owner_of
from services.api.schemas import Accepted, ChatRequest, write_body
from services.api.urls import task_urls
from shared.contracts.errors import InvalidInput

#: What an Idempotency-Key may be: visible ASCII, quoted as the draft has it or plain, up to 255 characters.
_KEY: Final = re.compile(r'"?([!#-~]{1,255})"?\Z')

_log = structlog.get_logger()


class Chat:
    """Accepts a message: the 202 with its addresses, or the stream itself."""

    def __init__(self, acceptance: Acceptance, handoff: Handoff, *, max_body_bytes: int) -> None:
        self._acceptance = acceptance
        self._handoff = handoff
        self._max_body_bytes = max_body_bytes

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """202: the task exists."""
        task = self._accept(req, resp)
        urls = task_urls(task.task_id)
        resp.status = falcon.HTTP_202
        resp.location = urls.self_
        resp.set_header("Cache-Control", "no-store")
        write_body(
            resp,
            Accepted(
                task_id=task.task_id,
                session_id=task.session_id,
                status="queued",
                urls=urls,
                events_token=self._handoff.events_token(task.task_id),
            ),
        )

    def on_post_stream(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The stream, by way of the edge (200) or of a redirect (303)."""
        task = self._accept(req, resp)
        self._handoff.after_post(req, resp, task.task_id)

    def _accept(self, req: falcon.Request, resp: falcon.Response) -> AcceptedTask:
        request, raw = read_body(req, ChatRequest, max_bytes=self._max_body_bytes)
        task = self._acceptance.accept(
            request,
            raw,
            owner=owner_of(req),
            idempotency_key=_idempotency_key(req),
            request_id=req.context.request_id,
        )
        _log.info("task_accepted", task_id=task.task_id, session_id=task.session_id, replayed=task.replayed)
        resp.set_header("X-Task-ID", task.task_id)
        resp.set_header("X-Session-ID", task.session_id)
        if task.replayed:
            resp.set_header("Idempotent-Replayed", "true")
        return task


def _idempotency_key(req: falcon.Request) -> str | None:
    header = req.get_header("Idempotency-Key")
    if header is None:
        return None
    match = _KEY.match(header.strip())
    if match is None:
        raise InvalidInput("invalid_header", "The Idempotency-Key must be 1 to 255 visible ASCII characters.")
    return match[1]
