"""The ledger as threads use it: the API makes and cancels tasks, the sweeper finds those that need a job.

A task's state lives in the store, not in a queue. Every change is one of six scripts, each atomic; this module
calls `create`, `cancel` and `sweep`, and `ledger_async.py` calls `claim`, `append` and `renew`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import redis

from shared.contracts import keys
from shared.contracts.entries import from_stream
from shared.contracts.errors import NotFound
from shared.contracts.events import Cancelled, Created
from shared.contracts.frames import encode_frame
from shared.contracts.ids import BEFORE_FIRST, all_buckets, bucket_of
from shared.contracts.jobs import GenerateAnswer
from shared.contracts.tasks import Task
from shared.contracts.transcript import Transcript
from shared.contracts.usage import estimate
from shared.runtime.scripts import CANCEL, CREATE, SWEEP
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import store_errors

#: Entries of a log read at once. Bounds what one reply takes; a whole answer is usually one page.
LOG_PAGE = 1000

#: Tasks of one bucket looked at in one sweep. Bounds a script's run to about a millisecond.
SWEEP_PAGE = 100

#: Stands in a `cancelled` frame where the script puts the text so far.
_PARTIAL_MARK = "\x00partial\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueJob:
    """A job that must be in the queue. A takeover goes to the head: its client has already waited."""

    job: GenerateAnswer
    takeover: bool


class Ledger:
    """Tasks in the store, for threads. Every method raises StoreUnavailable when the store cannot serve."""

    def __init__(self, client: redis.Redis, settings: LedgerSettings) -> None:
        self._client: Any = client
        self._settings = settings

    def create(self, created: Created, *, owner: str, queue: str, request_id: str) -> None:
        """Bring a task into being: from here on it will end in exactly one terminal event.

        Once per task id; again it changes nothing. A crash before it leaves nothing, one after it leaves a task
        that the sweep will queue.
        """
        task_id = created.task_id
        fields: list[str] = ["owner", owner, "session_id", created.session_id, "model", created.model]
        fields += ["queue", queue, "request_id", request_id]
        with store_errors():
            CREATE.call(
                self._client,
                [keys.task(task_id), keys.log(task_id), keys.pending(bucket_of(task_id))],
                [task_id, self._settings.first_look_ms, encode_frame(created), *fields],
            )

    def task(self, task_id: str) -> Task:
        """A task's state. Raises NotFound."""
        with store_errors():
            fields = self._client.hgetall(keys.task(task_id))
        if not fields:
            raise NotFound("task")
        return Task.from_hash(fields)

    def transcript(self, task_id: str) -> Transcript:
        """What the task's log adds up to by now. Empty where the log has expired."""
        transcript = Transcript()
        while True:
            cursor = transcript.last_id
            after = "-" if cursor == BEFORE_FIRST else f"({cursor}"
            with store_errors():
                page = self._client.xrange(keys.log(task_id), min=after, count=LOG_PAGE)
            for entry_id, fields in page:
                transcript.add(from_stream(entry_id, fields))
            if len(page) < LOG_PAGE:
                return transcript

    def cancel(self, task_id: str, *, by: str, asked_bytes: int = 0) -> None:
        """End a task as `cancelled`, keeping its text so far. Harmless when it has ended. Raises NotFound.

        `asked_bytes`: what the model was sent, for the estimate of what the task has used.
        """
        transcript = self.transcript(task_id)
        said = f"{transcript.reasoning}{transcript.content}".encode()
        usage = estimate(asked_bytes=asked_bytes, answered_bytes=len(said)) if transcript.attempt else None
        frame = encode_frame(Cancelled(task_id=task_id, by=by, partial=_PARTIAL_MARK, usage=usage))
        before, after = frame.split(b'"\\u0000partial\\u0000"')
        with store_errors():
            outcome = CANCEL.call(
                self._client,
                keys.to_write(task_id),
                [
                    task_id,
                    transcript.last_id,
                    transcript.content,
                    before,
                    after,
                    self._settings.log_ttl_ms,
                    self._settings.task_ttl_ms,
                ],
            )
            if outcome == b"CANCELLED":
                self._client.publish(keys.CANCEL_CHANNEL, task_id)
        if outcome == b"GONE":
            raise NotFound("task")

    def sweep(self, *, take_over: bool) -> list[DueJob]:
        """Find the jobs that must be in the queue now: of tasks whose lease ran out, and of those that wait long.

        Any number of workers may sweep at once; each due task is given to one of them. A crash after this call
        delays a job until the task is due again.
        """
        with store_errors():
            seconds, microseconds = self._client.time()
            now_ms = seconds * 1000 + microseconds // 1000
            pipeline = self._client.pipeline(transaction=False)
            for bucket in all_buckets():
                pipeline.zrange(keys.pending(bucket), "-inf", now_ms, byscore=True, offset=0, num=SWEEP_PAGE)
                pipeline.zremrangebyscore(keys.ended(bucket), "-inf", now_ms - self._settings.log_ttl_ms)
            due = pipeline.execute()[::2]
            return [
                job
                for bucket, task_ids in zip(all_buckets(), due, strict=True)
                for job in self._sweep_bucket(bucket, [task_id.decode() for task_id in task_ids], take_over)
            ]

    def _sweep_bucket(self, bucket: str, task_ids: list[str], take_over: bool) -> Iterable[DueJob]:
        if not task_ids:
            return []
        first_look_ms, max_look_ms = self._settings.first_look_ms, self._settings.max_look_ms
        rows = SWEEP.call(
            self._client,
            [keys.pending(bucket), *(keys.task(task_id) for task_id in task_ids)],
            [first_look_ms, max_look_ms, "1" if take_over else "0", *task_ids],
        )
        return [_due_job(row) for row in rows]


def _due_job(row: list[Any]) -> DueJob:
    task_id, number, queue, request_id, why = row
    kind: Literal["takeover", "look"] = why.decode()
    job = GenerateAnswer(task_id=task_id.decode(), number=number, queue=queue.decode(), request_id=request_id.decode())
    return DueJob(job=job, takeover=kind == "takeover")
