"""GET /tasks/{id}, its events (handed to the gateway) and its Stop."""

import falcon
import structlog

from services.api.handoff import Handoff
from services.api.identity import owner_of
from services.api.schemas import TaskView, write_body
from services.api.urls import task_urls
from shared.contracts.errors import NotFound
from shared.contracts.events import Cancelled, Completed, Failed
from shared.contracts.ids import is_task_id
from shared.contracts.tasks import Task
from shared.contracts.usage import bytes_of
from shared.runtime.ledger import Ledger
from shared.runtime.sessions import Sessions

_log = structlog.get_logger()


class Tasks:
    """Follows and stops one task. Somebody else's task is as unknown as one that never was."""

    def __init__(self, ledger: Ledger, sessions: Sessions, handoff: Handoff) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._handoff = handoff

    def on_get(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        """The task now, with its text so far."""
        self._answer(req, resp, self._own(req, task_id), task_id)

    def on_get_events(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        """The way to the task's stream."""
        self._own(req, task_id)
        self._handoff.after_get(req, resp, task_id)

    def on_post_cancel(self, req: falcon.Request, resp: falcon.Response, task_id: str) -> None:
        """End the task, whatever it is doing. Harmless when it has ended."""
        task = self._own(req, task_id)
        if not task.ended:
            self._ledger.cancel(task_id, by="user", asked_bytes=self._asked_bytes(task, task_id))
            _log.info("task_cancelled", task_id=task_id)
        self._answer(req, resp, self._own(req, task_id), task_id)

    def _own(self, req: falcon.Request, task_id: str) -> Task:
        if not is_task_id(task_id):
            raise NotFound("task")
        task = self._ledger.task(task_id)
        if task.owner != owner_of(req):
            raise NotFound("task")
        return task

    def _asked_bytes(self, task: Task, task_id: str) -> int:
        try:
            return bytes_of(self._sessions.conversation(task.session_id, task_id, owner=task.owner))
        except NotFound:
            return 0

    def _answer(self, req: falcon.Request, resp: falcon.Response, task: Task, task_id: str) -> None:
        view = self._view(task, task_id)
        etag = falcon.ETag(f"{view.last_event_id}.{view.status}")
        resp.etag = etag
        resp.set_header("Cache-Control", "no-cache")
        if req.method == "GET" and any(tag == "*" or tag == etag for tag in req.if_none_match or []):
            resp.status = falcon.HTTP_304
            return
        write_body(resp, view)

    def _view(self, task: Task, task_id: str) -> TaskView:
        transcript = self._ledger.transcript(task_id)
        end = task.end or transcript.end
        match end:
            case Completed(content=text):
                status = "completed"
            case Failed(partial=text):
                status = "failed"
            case Cancelled(partial=text):
                status = "cancelled"
            case None:
                status, text = task.status, transcript.content
        return TaskView(
            task_id=task_id,
            session_id=task.session_id,
            status=status,
            model=task.model,
            attempt=task.attempt,
            content=text,
            reasoning=transcript.reasoning,
            last_event_id=task.last_id or transcript.last_id,
            created_ms=task.created_ms,
            urls=task_urls(task_id),
            finish_reason=end.finish_reason if isinstance(end, Completed) else None,
            usage=end.usage if isinstance(end, Completed | Cancelled) else None,
            timings=end.timings if isinstance(end, Completed) else None,
            problem=end.problem if isinstance(end, Failed) else None,
        )
