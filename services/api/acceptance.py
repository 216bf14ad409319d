"""How a chat message is accepted, step by step. Each step may be repeated, so a retry finishes what a crash left.

idempotency → the user's message into the session → `create`, the commit point → the job. Only what comes before the
commit point can refuse; a job that could not be queued is the sweep's to make.
"""

from dataclasses import dataclass

import redis
import structlog

from services.api.schemas import ChatRequest
from shared.contracts.errors import InvalidInput, NotFound
from shared.contracts.events import Created
from shared.contracts.ids import is_session_id, new_session_id, new_task_id
from shared.contracts.jobs import LLM_QUEUE, GenerateAnswer
from shared.contracts.models import is_allowed
from shared.runtime.broker import EkidenBroker
from shared.runtime.idempotency import IdempotencyKeys
from shared.runtime.ledger import Ledger
from shared.runtime.metrics import TASKS_CREATED
from shared.runtime.queue import as_message
from shared.runtime.sessions import Sessions

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedTask:
    """A task that exists. `replayed`: an earlier request with the same key had made it."""

    task_id: str
    session_id: str
    replayed: bool


class Acceptance:
    """Turns chat requests into tasks."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sessions: Sessions,
        idempotency: IdempotencyKeys,
        broker: EkidenBroker,
        model_patterns: list[str],
        default_model: str,
    ) -> None:
        self._ledger = ledger
        self._sessions = sessions
        self._idempotency = idempotency
        self._broker = broker
        self._model_patterns = model_patterns
        self._default_model = default_model

    def accept(
        self, request: ChatRequest, raw: bytes, *, owner: str, idempotency_key: str | None, request_id: str
    ) -> AcceptedTask:
        """Make the task of a request.

        Raises InvalidInput, NotFound, SessionBusy or StoreUnavailable; then there is no task.
        """
        model = self._check(request)
        task_id, session_id = new_task_id(), request.session_id or new_session_id()
        if idempotency_key is not None:
            mapping, known = self._idempotency.resolve(
                owner, idempotency_key, request=raw, task_id=task_id, session_id=session_id
            )
            task_id, session_id = mapping.task_id, mapping.session_id
            if known and self._exists(task_id):
                return AcceptedTask(task_id=task_id, session_id=session_id, replayed=True)
        self._sessions.begin_turn(
            session_id, owner=owner, task_id=task_id, message=request.message, new=request.session_id is None
        )
        created = Created(task_id=task_id, session_id=session_id, model=model)
        self._ledger.create(created, owner=owner, queue=LLM_QUEUE, request_id=request_id)
        TASKS_CREATED.inc()
        self._queue(GenerateAnswer(task_id=task_id, request_id=request_id))
        return AcceptedTask(task_id=task_id, session_id=session_id, replayed=False)

    def _check(self, request: ChatRequest) -> str:
        """The model to ask, once all of the request is known to be right."""
        if not request.message.strip():
            raise InvalidInput("invalid_field", "The message is empty.", path="$.message")
        if request.session_id is not None and not is_session_id(request.session_id):
            raise NotFound("session")
        model = request.model or self._default_model
        if not is_allowed(model, self._model_patterns):
            raise InvalidInput("unknown_model", "This model is not served here; see GET /models.", path="$.model")
        return model

    def _exists(self, task_id: str) -> bool:
        try:
            self._ledger.task(task_id)
        except NotFound:
            return False
        return True

    def _queue(self, job: GenerateAnswer) -> None:
        try:
            self._broker.put(as_message(job), at_head=False)
        except redis.RedisError as error:
            _log.warning("job_left_to_the_sweep", task_id=job.task_id, exc_info=error)
