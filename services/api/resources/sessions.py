"""GET /sessions/{id}: what was said, and the task that is answering now."""

import falcon

from services.api.identity import owner_of
from services.api.schemas import SessionMessage, SessionView, write_body
from shared.contracts.errors import NotFound
from shared.contracts.ids import is_session_id
from shared.contracts.sessions import AnsweredTurn
from shared.contracts.tasks import ENDED
from shared.runtime.sessions import Sessions


class SessionHistory:
    """Reads one session. Somebody else's is as unknown as one that never was."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def on_get(self, req: falcon.Request, resp: falcon.Response, session_id: str) -> None:
        """The session's messages in order."""
        if not is_session_id(session_id):
            raise NotFound("session")
        session = self._sessions.get(session_id, owner=owner_of(req))
        running = [answered.turn.task_id for answered in session.turns if answered.status not in {*ENDED, "gone"}]
        resp.set_header("Cache-Control", "no-cache")
        write_body(
            resp,
            SessionView(
                session_id=session_id,
                created_ms=session.created_ms,
                messages=[message for answered in session.turns for message in _messages(answered)],
                active_task_id=running[-1] if running else None,
            ),
        )


def _messages(answered: AnsweredTurn) -> list[SessionMessage]:
    task_id, status = answered.turn.task_id, answered.status
    messages = [SessionMessage(role="user", content=answered.turn.content, task_id=task_id, status=status)]
    if answered.answer or status == "completed":
        messages.append(SessionMessage(role="assistant", content=answered.answer or "", task_id=task_id, status=status))
    return messages
