"""The ledger as a worker's event loop uses it: claim a task, append to its log, keep the lease.

`ledger.py` is the other half, for threads. The scripts say what each call does and returns.
"""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from redis.exceptions import NoScriptError

from shared.contracts import keys
from shared.contracts.entries import LogEntry, from_reply
from shared.contracts.errors import Fenced, StoreWentBack
from shared.contracts.ids import BEFORE_FIRST, bucket_of
from shared.contracts.tasks import Task
from shared.runtime.ledger import LOG_PAGE
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.scripts import APPEND, CLAIM, RENEW, Argument
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import store_errors

#: Keys and arguments of a script as a command.
Command = Callable[[Sequence[str], Sequence[Argument]], tuple[Argument, ...]]

Outcome = Literal["GONE", "ENDED", "LEASED", "CLAIMED", "EXHAUSTED"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A task taken: `epoch` is the right to append, `last_id` the entry to follow, `waited_ms` since the POST.

    `exhausted`: the task has killed too many workers and must only be ended.
    """

    task_id: str
    task: Task
    epoch: str
    last_id: str
    waited_ms: int
    exhausted: bool


def new_claim_name() -> str:
    """A name that no other claim has."""
    return secrets.token_hex(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Entries frozen for one append: sent again it is the same bytes in the same order."""

    task_id: str
    epoch: str
    follows: str
    entries: tuple[tuple[str, str, bytes], ...]

    @property
    def last_id(self) -> str:
        """The id of the batch's last entry."""
        return self.entries[-1][0]


class AsyncLedger:
    """Tasks in the store, for one event loop."""

    def __init__(self, client: PipelinedClient, settings: LedgerSettings, *, worker: str) -> None:
        self._client = client
        self._settings = settings
        self._worker = worker

    async def claim(self, task_id: str, *, held_epoch: str = "", name: str = "") -> Claim | None:
        """Take a task, or None where there is nothing to do: gone, ended, or somebody else works on it.

        `held_epoch` lets the holder claim again at once, after StoreWentBack. Raises StoreUnavailable: then it is open
        whether the task is ours, and the same claim may be made again under the same `name`.
        """
        settings = self._settings
        with store_errors():
            reply = await CLAIM.call_async(
                self._client,
                [keys.task(task_id), keys.log(task_id), keys.pending(bucket_of(task_id))],
                [
                    task_id,
                    self._worker,
                    settings.lease_ms,
                    settings.max_crashes,
                    held_epoch,
                    name or new_claim_name(),
                ],
            )
        outcome: Outcome = reply[0].decode()
        if outcome not in ("CLAIMED", "EXHAUSTED"):
            return None
        _, epoch, last_id, waited_ms, *flat = reply
        return Claim(
            task_id=task_id,
            task=Task.from_hash(dict(zip(flat[::2], flat[1::2], strict=True))),
            epoch=epoch.decode(),
            last_id=last_id.decode(),
            waited_ms=int(waited_ms),
            exhausted=outcome == "EXHAUSTED",
        )

    async def append(self, batches: Sequence[Batch]) -> list[Exception | None]:
        """Append batches of different tasks in one round trip. For each: None, or why it does not stand.

        Fenced and StoreWentBack are final. Anything else leaves open whether the batch stands: send the same
        batch again. Never raises on account of one batch.
        """
        replies = await self._append(batches, APPEND.command)
        if any(isinstance(reply, NoScriptError) for reply in replies):
            # A store that has just started knows no script. What did stand is told apart by the ledger itself.
            replies = await self._append(batches, APPEND.command_with_text)
        return [_verdict(reply) for reply in replies]

    async def _append(self, batches: Sequence[Batch], command: Command) -> list[Any]:
        return await self._client.execute_all(
            [command(keys.to_write(batch.task_id), self._arguments(batch)) for batch in batches]
        )

    async def renew(self, held: dict[str, str], *, give_back: bool = False) -> set[str]:
        """Extend the leases of tasks (id → epoch), or give them back. Returns the ids that are no longer held.

        One round trip, one call per bucket. Raises StoreUnavailable.
        """
        by_bucket: dict[str, list[str]] = {}
        for task_id in held:
            by_bucket.setdefault(bucket_of(task_id), []).append(task_id)
        lease_ms = 0 if give_back else self._settings.lease_ms
        with store_errors():
            replies = await self._renew_buckets(by_bucket, held, lease_ms, RENEW.command)
            if any(isinstance(reply, NoScriptError) for reply in replies):
                replies = await self._renew_buckets(by_bucket, held, lease_ms, RENEW.command_with_text)
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        fenced: set[str] = set()
        for task_ids, reply in zip(by_bucket.values(), replies, strict=True):
            fenced.update(task_id for task_id, kept in zip(task_ids, reply, strict=True) if not kept)
        return fenced

    async def _renew_buckets(
        self, by_bucket: dict[str, list[str]], held: dict[str, str], lease_ms: int, command: Command
    ) -> list[Any]:
        commands = []
        for bucket, task_ids in by_bucket.items():
            renew_keys = [keys.pending(bucket), *(keys.task(task_id) for task_id in task_ids)]
            pairs = [text for task_id in task_ids for text in (task_id, held[task_id])]
            commands.append(command(renew_keys, [lease_ms, *pairs]))
        return await self._client.execute_all(commands)

    async def read_log(self, task_id: str) -> list[LogEntry]:
        """All entries of a task's log by now. Raises StoreUnavailable."""
        entries: list[LogEntry] = []
        cursor = BEFORE_FIRST
        while True:
            after = "-" if cursor == BEFORE_FIRST else f"({cursor}"
            with store_errors():
                page = await self._client.execute("XRANGE", keys.log(task_id), after, "+", "COUNT", LOG_PAGE)
            entries += [from_reply(row) for row in page]
            if len(page) < LOG_PAGE:
                return entries
            cursor = entries[-1].id.decode()

    def _arguments(self, batch: Batch) -> list[str | bytes | int]:
        head: list[str | bytes | int] = [batch.task_id, batch.epoch, batch.follows]
        head += [self._settings.log_ttl_ms, self._settings.task_ttl_ms]
        return head + [word for entry in batch.entries for word in entry]


def _verdict(reply: bytes | Exception) -> Exception | None:
    match reply:
        case b"OK" | b"DONE":
            return None
        case b"FENCED":
            return Fenced()
        case b"MISMATCH":
            return StoreWentBack()
        case Exception():
            return reply
        case _:
            raise AssertionError(f"append answered {reply!r}")
