"""Sessions in the store: who owns one, its turns, and which answer of it still runs.

A session's keys and a task's keys may live on different servers, so nothing here touches both in one step: the
message enters the session first, then the task is created. A crash in between leaves a turn whose task never
came to be; it is replaced by the session's next message.
"""

import time
from dataclasses import dataclass
from typing import Any

import msgspec
import redis

from shared.contracts import keys
from shared.contracts.errors import NotFound, SessionBusy
from shared.contracts.events import Completed
from shared.contracts.sessions import AnsweredTurn, Message, Turn, conversation
from shared.contracts.tasks import ENDED, Task
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.scripts import BEGIN_TURN
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import store_errors

#: A turn without a task is given up after this long. An API process needs milliseconds from the turn to the task;
#: this is far past the time after which it has answered 503.
ORPHANED_TURN_MS = 5_000

_turn_decoder = msgspec.json.Decoder(Turn)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as its owner sees it. `active_task` is the newest turn's task, ended or not."""

    session_id: str
    created_ms: int
    active_task: str
    turns: list[AnsweredTurn]


class Sessions:
    """Sessions, for threads. Every method raises StoreUnavailable when the store cannot serve."""

    def __init__(self, client: redis.Redis, settings: LedgerSettings) -> None:
        self._client: Any = client
        self._settings = settings

    def begin_turn(self, session_id: str, *, owner: str, task_id: str, message: str, new: bool) -> None:
        """Put the user's message into the session, once per task id.

        Raises NotFound for a session that is unknown or another owner's, SessionBusy while an answer of it runs.
        """
        over, never_made = "", False
        while True:
            reply = self._begin(session_id, owner, task_id, message, new, over, never_made)
            if reply[0] == b"OK":
                return
            if reply[0] == b"NOT_FOUND":
                raise NotFound("session")
            active, since_ms = reply[1].decode(), int(reply[2])
            status = self._status(active)
            never_made = status is None
            if never_made and since_ms <= ORPHANED_TURN_MS:
                raise SessionBusy(None)
            if active == over or not (never_made or status in ENDED):
                raise SessionBusy(active)
            over = active

    def get(self, session_id: str, *, owner: str) -> Session:
        """A session with its turns and their answers. Raises NotFound."""
        with store_errors():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.hgetall(keys.session(session_id))
            pipeline.lrange(keys.turns(session_id), 0, -1)
            fields, raw_turns = pipeline.execute()
            if fields.get(b"owner", b"").decode() != owner:
                raise NotFound("session")
            turns = [_turn_decoder.decode(raw) for raw in raw_turns]
            pipeline = self._client.pipeline(transaction=False)
            for turn in turns:
                pipeline.hgetall(keys.task(turn.task_id))
            tasks = pipeline.execute()
        return Session(
            session_id=session_id,
            created_ms=int(fields[b"created_ms"]),
            active_task=fields.get(b"active_task", b"").decode(),
            turns=[_answered(turn, task) for turn, task in zip(turns, tasks, strict=True)],
        )

    def conversation(self, session_id: str, task_id: str, *, owner: str) -> list[Message]:
        """What a model is sent to answer the turn of `task_id`. Raises NotFound."""
        turns = self.get(session_id, owner=owner).turns
        for place, answered in enumerate(turns):
            if answered.turn.task_id == task_id:
                return conversation(turns[:place], answered.turn.content)
        raise NotFound("session")

    def _begin(
        self, session_id: str, owner: str, task_id: str, message: str, new: bool, over: str, never_made: bool
    ) -> list[bytes]:
        turn = Turn(task_id=task_id, content=message, at_ms=time.time_ns() // 1_000_000)
        with store_errors():
            reply: list[bytes] = BEGIN_TURN.call(
                self._client,
                [keys.session(session_id), keys.turns(session_id), keys.turn_ids(session_id)],
                [
                    owner,
                    task_id,
                    msgspec.json.encode(turn),
                    self._settings.session_ttl_ms,
                    "1" if new else "0",
                    over,
                    "1" if never_made else "0",
                ],
            )
        return reply

    def _status(self, task_id: str) -> str | None:
        with store_errors():
            status = self._client.hget(keys.task(task_id), "status")
        return status.decode() if status else None


async def turns_before(
    client: PipelinedClient, session_id: str, task_id: str, settings: LedgerSettings
) -> tuple[list[AnsweredTurn], str]:
    """What a worker needs to answer: the turns before the task's own, and the task's question.

    Keeps the answers of those turns alive as long as the session. Raises NotFound when the session or the task's
    turn is gone, StoreUnavailable.
    """
    with store_errors():
        raw_turns = await client.execute("LRANGE", keys.turns(session_id), 0, -1)
        turns = [_turn_decoder.decode(raw) for raw in raw_turns]
        position = next((place for place, turn in enumerate(turns) if turn.task_id == task_id), None)
        if position is None:
            raise NotFound("session")
        earlier = turns[:position]
        replies = await client.execute_all(
            [("HGETALL", keys.task(turn.task_id)) for turn in earlier]
            + [("PEXPIRE", keys.task(turn.task_id), settings.session_ttl_ms, "XX") for turn in earlier]
        )
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
    tasks = [dict(zip(flat[::2], flat[1::2], strict=True)) for flat in replies[: len(earlier)]]
    answered = [_answered(turn, task) for turn, task in zip(earlier, tasks, strict=True)]
    return answered, turns[position].content


def _answered(turn: Turn, fields: dict[bytes, bytes]) -> AnsweredTurn:
    if not fields:
        return AnsweredTurn(turn=turn, status="gone", answer=None)
    task = Task.from_hash(fields)
    end = task.end
    answer = None if end is None else end.content if isinstance(end, Completed) else end.partial
    return AnsweredTurn(turn=turn, status=task.status, answer=answer)
