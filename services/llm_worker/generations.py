"""All attempts of this process: begins them, keeps their leases, and stops those that must stop."""

import asyncio
import random

import structlog

from services.llm_worker.generation import Generation
from services.llm_worker.settings import Settings
from shared.contracts.errors import LogLost, StoreUnavailable, StoreWentBack
from shared.providers.litellm_chat import LitellmChat
from shared.runtime.appender import Appender
from shared.runtime.event_loop import is_cancelled
from shared.runtime.ledger_async import AsyncLedger, Claim, new_claim_name
from shared.runtime.metrics import RUNNING
from shared.runtime.pipelined import PipelinedClient

#: The longest pause between two tries to claim while the store is away.
_MAX_BACKOFF_SECONDS = 1.0

_log = structlog.get_logger()


class Generations:
    """The attempts that run now, by task id. All methods belong to the event loop."""

    def __init__(
        self, *, ledger: AsyncLedger, appender: Appender, store: PipelinedClient, chat: LitellmChat, settings: Settings
    ) -> None:
        self._ledger = ledger
        self._appender = appender
        self._store = store
        self._chat = chat
        self._settings = settings
        self._running: dict[str, Generation] = {}
        self._jobs = 0
        self._handing_over = False
        #: Set while no job is in hand.
        self.idle = asyncio.Event()
        self.idle.set()
        self.renewed_at = asyncio.get_running_loop().time()

    @property
    def count(self) -> int:
        """How many jobs are in hand: attempts that run, and tasks that are just being claimed."""
        return self._jobs

    async def run(self, task_id: str) -> None:
        """Work on a task until it has ended, is somebody else's, or is handed over. The body of the job."""
        self._jobs += 1
        self.idle.clear()
        try:
            await self._work_on(task_id)
        finally:
            self._jobs -= 1
            if not self._jobs:
                self.idle.set()

    def cancel(self, task_id: str) -> None:
        """The task was cancelled: close its provider, if it is one of ours."""
        if generation := self._running.get(task_id):
            generation.stop("cancelled")

    def hand_over(self) -> None:
        """Stop every attempt and give its lease back, so that another worker goes on at once."""
        self._handing_over = True
        for generation in self._running.values():
            generation.stop("handed_over")

    async def keep_leases(self) -> None:
        """Renew all leases, four times in a lease's life, until cancelled."""
        while not is_cancelled():
            await asyncio.sleep(self._settings.lease_seconds / 4)
            held = {task_id: generation.claim.epoch for task_id, generation in self._running.items()}
            try:
                fenced = await self._ledger.renew(held) if held else set()
            except StoreUnavailable as error:
                _log.warning("renew_failed", tasks=len(held), exc_info=error.__cause__)
                continue
            self.renewed_at = asyncio.get_running_loop().time()
            for task_id in fenced:
                generation = self._running.get(task_id)
                if generation is not None and generation.claim.epoch == held[task_id]:
                    generation.stop("fenced")

    async def _work_on(self, task_id: str) -> None:
        claim = await self._claim(task_id)
        while claim is not None:
            try:
                await self._attempt(claim)
                return
            except StoreWentBack:
                claim = await self._claim(task_id, held_epoch=claim.epoch)
            except LogLost:
                return

    async def _attempt(self, claim: Claim) -> None:
        generation = Generation(
            claim,
            ledger=self._ledger,
            appender=self._appender,
            store=self._store,
            chat=self._chat,
            settings=self._settings,
        )
        self._running[claim.task_id] = generation
        RUNNING.set(len(self._running))
        if self._handing_over:
            generation.stop("handed_over")
        try:
            await generation.run()
        finally:
            if self._running.get(claim.task_id) is generation:
                del self._running[claim.task_id]
            RUNNING.set(len(self._running))

    async def _claim(self, task_id: str, *, held_epoch: str = "") -> Claim | None:
        """Claim as soon as the store serves. None also once the process hands over: the sweep has the task."""
        pause, name = 0.05, new_claim_name()
        while not self._handing_over:
            try:
                return await self._ledger.claim(task_id, held_epoch=held_epoch, name=name)
            except StoreUnavailable as error:
                _log.warning("claim_delayed", task_id=task_id, exc_info=error.__cause__)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(_MAX_BACKOFF_SECONDS, pause * 2)
        return None
