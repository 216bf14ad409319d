"""One attempt at one task: claim it, ask the model, write the answer, end it in exactly one terminal event.

Reads the session and the task, writes the task's log. Whatever ends an attempt early (cancelled, fenced, handed
over) leaves the provider's connection closed.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog

from services.llm_worker.settings import Settings
from shared.contracts.errors import (
    EkidenError,
    Problem,
    ProviderError,
    StoreUnavailable,
    StoreWentBack,
    problem_of,
)
from shared.contracts.events import (
    Completed,
    Delta,
    Failed,
    Reasoning,
    Reset,
    Started,
    Terminal,
    Timings,
    Usage,
)
from shared.contracts.sessions import conversation
from shared.contracts.transcript import Transcript
from shared.providers.chat import Piece, Question
from shared.providers.errors import ProviderSilent
from shared.providers.litellm_chat import LitellmChat
from shared.runtime.appender import Appender, LogWriter
from shared.runtime.ledger_async import AsyncLedger, Claim
from shared.runtime.metrics import FIRST_TOKEN_SECONDS, QUEUE_SECONDS, TASKS_ENDED
from shared.runtime.sessions import turns_before

#: Why an attempt was ended from outside.
StopReason = Literal["cancelled", "fenced", "handed_over"]

#: Bytes of UTF-8 that count as one token where the provider reports none.
_BYTES_PER_TOKEN = 4

_log = structlog.get_logger()


class WorkerCrashed(EkidenError):
    """The task has taken too many workers down with it."""

    code = "worker_crashed"
    title = "The answer could not be made"
    detail = "Every worker that tried to answer was lost on the way."


class TimeLimit(EkidenError):
    """The hard limit: the attempt did not even end when it was told to."""

    code = "time_limit"
    retryable = True
    title = "The answer took too long"
    detail = "The task reached its time limit."


class InternalError(EkidenError):
    """A fault of ours. The log of the worker says where."""

    detail = "The answer broke off on our side."


@dataclass(slots=True)
class _Answer:
    """What the model has said so far in this attempt."""

    asked_bytes: int = 0
    pieces: list[str] = field(default_factory=list)
    bytes: int = 0
    finish_reason: str = "stop"
    usage: Usage | None = None
    first_at: float | None = None

    @property
    def content(self) -> str:
        return "".join(self.pieces)

    @property
    def estimated_usage(self) -> Usage:
        return Usage(
            input_tokens=-(-self.asked_bytes // _BYTES_PER_TOKEN),
            output_tokens=-(-self.bytes // _BYTES_PER_TOKEN),
            estimated=True,
        )


class Generation:
    """One attempt. `run` it once; `stop` may be called from the event loop at any time."""

    def __init__(
        self,
        claim: Claim,
        *,
        ledger: AsyncLedger,
        appender: Appender,
        store: Any,
        chat: LitellmChat,
        settings: Settings,
    ) -> None:
        self.claim = claim
        self.stopped: StopReason | None = None
        self._ledger = ledger
        self._store = store
        self._chat = chat
        self._settings = settings
        self._writer = LogWriter(appender, claim, on_lost=lambda: self.stop("fenced"))
        self._answer = _Answer()
        self._asking: asyncio.Task[Terminal] | None = None
        self._began_at = asyncio.get_running_loop().time()

    def stop(self, reason: StopReason) -> None:
        """Give the attempt up. The provider's connection is closed within a second."""
        if self.stopped is None:
            self.stopped = reason
            if self._asking is not None:
                self._asking.cancel()

    async def run(self) -> None:
        """Make the attempt. Raises StoreWentBack when the task should be claimed again at once."""
        claim = self.claim
        QUEUE_SECONDS.observe(claim.waited_ms / 1000)
        if claim.exhausted:
            await self._end(
                Failed(task_id=claim.task_id, problem=problem_of(WorkerCrashed()), partial=await self._standing())
            )
            return
        self._begin()
        self._asking = asyncio.create_task(self._ask_within_limits())
        if self.stopped is not None:
            self._asking.cancel()
        [ending] = await asyncio.gather(self._asking, return_exceptions=True)
        if self.stopped is not None:
            await self._give_up(self.stopped)
        elif isinstance(ending, BaseException):
            raise ending
        else:
            await self._end(ending)

    def _begin(self) -> None:
        claim, task = self.claim, self.claim.task
        self._writer.write(
            Started(task_id=claim.task_id, attempt=task.attempt, model=task.model, queue_ms=claim.waited_ms)
        )
        if task.attempt > 1:
            reason = "worker_lost" if task.crashes else "handed_over"
            self._writer.write(
                Reset(task_id=claim.task_id, content="", reasoning="", reason=reason, attempt=task.attempt)
            )
        _log.info("task_started", task_id=claim.task_id, attempt=task.attempt, queue_ms=claim.waited_ms)

    async def _ask_within_limits(self) -> Terminal:
        """The terminal event of this attempt, whatever the model does."""
        try:
            async with asyncio.timeout(self._settings.hard_limit_seconds):
                await self._ask()
            return self._completed()
        except TimeoutError:
            return self._failed(problem_of(TimeLimit()))
        except StoreWentBack:
            raise
        except EkidenError as error:
            if isinstance(error, ProviderError) and error.__cause__ is not None:
                _log.warning("provider_failed", task_id=self.claim.task_id, code=error.code, exc_info=error.__cause__)
            return self._failed(problem_of(error))
        except Exception as error:  # noqa: BLE001 - the edge of the job: the client must be told its task's end
            _log.error("generation_failed", task_id=self.claim.task_id, exc_info=error)
            return self._failed(problem_of(InternalError()))

    async def _ask(self) -> None:
        task = self.claim.task
        turns, question = await turns_before(self._store, task.session_id, self.claim.task_id, self._settings)
        messages = conversation(turns, question)
        self._answer.asked_bytes = sum(len(message.content.encode()) for message in messages)
        pieces = self._chat.stream(
            Question(model=task.model, messages=messages, max_seconds=self._settings.hard_limit_seconds)
        )
        async with aclosing(pieces):
            patience = self._settings.first_token_seconds
            while (piece := await self._next(pieces, patience)) is not None:
                self._take(piece)
                # What a fast provider has sent already comes without a pause; all other tasks want their turn, and
                # this one's first token wants to leave.
                await asyncio.sleep(0)
                await self._writer.room()
                patience = self._settings.idle_seconds
                if self._answer.bytes > self._settings.max_answer_bytes:
                    self._answer.finish_reason = "length"
                    return

    async def _next(self, pieces: AsyncGenerator[Piece, None], patience_seconds: float) -> Piece | None:
        """The next piece; None at the answer's end and at the soft limit. Raises ProviderSilent."""
        loop = asyncio.get_running_loop()
        soft_end = self._began_at + self._settings.soft_limit_seconds
        try:
            async with asyncio.timeout_at(min(loop.time() + patience_seconds, soft_end)):
                return await anext(pieces, None)
        except TimeoutError:
            if loop.time() < soft_end:
                raise ProviderSilent from None
            self._answer.finish_reason = "deadline"
            return None

    def _take(self, piece: Piece) -> None:
        answer, task_id = self._answer, self.claim.task_id
        if answer.first_at is None and (piece.content or piece.reasoning):
            answer.first_at = asyncio.get_running_loop().time()
            FIRST_TOKEN_SECONDS.observe(answer.first_at - self._began_at)
        if piece.reasoning:
            self._writer.write(Reasoning(task_id=task_id, content=piece.reasoning))
        if piece.content:
            answer.pieces.append(piece.content)
            answer.bytes += len(piece.content.encode())
            self._writer.write(Delta(task_id=task_id, content=piece.content))
        answer.finish_reason = piece.finish_reason or answer.finish_reason
        answer.usage = piece.usage or answer.usage

    def _completed(self) -> Completed:
        answer = self._answer
        content = answer.content
        return Completed(
            task_id=self.claim.task_id,
            content=content,
            finish_reason=answer.finish_reason,
            usage=answer.usage or answer.estimated_usage,
            timings=self._timings(),
            sha256=hashlib.sha256(content.encode()).hexdigest(),
        )

    def _failed(self, problem: Problem) -> Failed:
        return Failed(task_id=self.claim.task_id, problem=problem, partial=self._answer.content)

    def _timings(self) -> Timings:
        now, first_at = asyncio.get_running_loop().time(), self._answer.first_at
        return Timings(
            queue_ms=self.claim.waited_ms,
            first_token_ms=None if first_at is None else round((first_at - self._began_at) * 1000),
            total_ms=round((now - self._began_at) * 1000),
        )

    async def _end(self, event: Terminal) -> None:
        self._writer.write(event)
        await self._writer.flush()
        outcome = type(event).__name__.lower()
        TASKS_ENDED.labels(outcome=outcome).inc()
        code = event.problem.code if isinstance(event, Failed) else None
        _log.info("task_ended", task_id=self.claim.task_id, outcome=outcome, code=code)

    async def _give_up(self, reason: StopReason) -> None:
        _log.info("task_given_up", task_id=self.claim.task_id, reason=reason)
        if reason == "handed_over":
            await self._writer.flush()
            try:
                await self._ledger.renew({self.claim.task_id: self.claim.epoch}, give_back=True)
            except StoreUnavailable as error:
                _log.warning("hand_over_failed", task_id=self.claim.task_id, exc_info=error.__cause__)
        elif isinstance(self._writer.lost, StoreWentBack):
            raise self._writer.lost

    async def _standing(self) -> str:
        """The text that earlier attempts left."""
        transcript = Transcript()
        for entry in await self._ledger.read_log(self.claim.task_id):
            transcript.add(entry)
        return transcript.content
