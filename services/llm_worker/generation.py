"""One attempt at one task: claim it, ask the model, write the answer, end it in exactly one terminal event.

Reads the session and the task, writes the task's log. Whatever ends an attempt early (cancelled, fenced, handed
over) leaves the provider's connection closed.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Literal

import structlog

from services.llm_worker.answer import Answer
from services.llm_worker.endings import InternalError, TimeLimit, WorkerCrashed
from services.llm_worker.settings import Settings
from shared.contracts.errors import (
    EkidenError,
    ProviderError,
    StoreUnavailable,
    StoreWentBack,
    problem_of,
)
from shared.contracts.events import (
    Failed,
    Reset,
    Started,
    Terminal,
)
from shared.contracts.sessions import AnsweredTurn, conversation
from shared.contracts.transcript import Transcript
from shared.providers.chat import Piece, Question
from shared.providers.errors import ProviderSilent
from shared.providers.litellm_chat import LitellmChat
from shared.runtime.appender import Appender, LogWriter
from shared.runtime.ledger_async import AsyncLedger, Claim
from shared.runtime.metrics import QUEUE_SECONDS, TASKS_ENDED
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.sessions import turns_before

#: Why an attempt was ended from outside.
StopReason = Literal["cancelled", "fenced", "handed_over"]

#: Seconds between two tries to read the session while the store is away.
STORE_RETRY_SECONDS = 0.25

_log = structlog.get_logger()


class Generation:
    """One attempt. `run` it once; `stop` may be called from the event loop at any time."""

    def __init__(
        self,
        claim: Claim,
        *,
        ledger: AsyncLedger,
        appender: Appender,
        store: PipelinedClient,
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
        self._answer = Answer(claim)
        self._asking: asyncio.Task[Terminal] | None = None

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
            return self._answer.completed()
        except TimeoutError:
            return self._answer.failed(problem_of(TimeLimit()))
        except StoreWentBack:
            raise
        except EkidenError as error:
            if isinstance(error, ProviderError) and error.__cause__ is not None:
                _log.warning("provider_failed", task_id=self.claim.task_id, code=error.code, exc_info=error.__cause__)
            return self._answer.failed(problem_of(error))
        except Exception as error:  # noqa: BLE001 - the edge of the job: the client must be told its task's end
            _log.error("generation_failed", task_id=self.claim.task_id, exc_info=error)
            return self._answer.failed(problem_of(InternalError()))

    async def _ask(self) -> None:
        task = self.claim.task
        turns, question = await self._history()
        self._stop_if_told_to()
        messages = conversation(turns, question)
        self._answer.asked(messages)
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
                self._stop_if_told_to()
                patience = self._settings.idle_seconds
                if self._answer.bytes > self._settings.max_answer_bytes:
                    self._answer.finish_reason = "length"
                    return

    def _stop_if_told_to(self) -> None:
        """A library may swallow a cancellation on its way; what was told is not lost."""
        if self.stopped is not None:
            raise asyncio.CancelledError

    async def _history(self) -> tuple[list[AnsweredTurn], str]:
        """The session up to the task's question. An outage of the store is waited out. Raises NotFound."""
        session_id, task_id = self.claim.task.session_id, self.claim.task_id
        while True:
            try:
                return await turns_before(self._store, session_id, task_id, self._settings)
            except StoreUnavailable as error:
                _log.warning("history_delayed", task_id=task_id, exc_info=error.__cause__)
            await asyncio.sleep(STORE_RETRY_SECONDS)
            self._stop_if_told_to()

    async def _next(self, pieces: AsyncGenerator[Piece, None], patience_seconds: float) -> Piece | None:
        """The next piece; None at the answer's end and at the soft limit. Raises ProviderSilent."""
        now = asyncio.get_running_loop().time()
        soft_end, silent_from = self._answer.began_at + self._settings.soft_limit_seconds, now + patience_seconds
        try:
            # A piece that is there already comes without a wait, and without a wait no time-out is ever noticed.
            if now < soft_end:
                async with asyncio.timeout_at(min(silent_from, soft_end)):
                    return await anext(pieces, None)
        except TimeoutError:
            if silent_from < soft_end:
                raise ProviderSilent from None
        self._answer.finish_reason = "deadline"
        return None

    def _take(self, piece: Piece) -> None:
        for event in self._answer.take(piece):
            self._writer.write(event)

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
