"""A task's state as its hash in the store holds it."""

from typing import Literal, Self

import msgspec

from shared.contracts.events import Cancelled, Completed, Failed
from shared.contracts.frames import decode_frame

Status = Literal["queued", "running", "completed", "failed", "cancelled"]

#: Statuses of a task whose log has got its terminal entry.
ENDED: frozenset[str] = frozenset({"completed", "failed", "cancelled"})


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """One piece of work a client asked for. Times are milliseconds since 1970 by the store's clock.

    `epoch` fences: only its holder may append. `lease_ms` is when the holder's lease runs out, 0 for no holder.
    `attempt` counts starts, `crashes` leases that ran out. `job` numbers the Dramatiq jobs made for the task.
    `end_frame` is the frame of the terminal entry, kept longer than the log, empty while the task runs.
    """

    owner: str
    session_id: str
    model: str
    queue: str
    status: Status
    created_ms: int
    epoch: str
    attempt: int = 0
    crashes: int = 0
    job: int = 1
    lease_ms: int = 0
    started_ms: int = 0
    ended_ms: int = 0
    last_id: str = ""
    end_frame: bytes = b""
    request_id: str = ""

    @classmethod
    def from_hash(cls, fields: dict[bytes, bytes]) -> Self:
        """A task as HGETALL returns it. Raises msgspec.ValidationError on a hash that holds no task."""
        values = {name.decode(): value for name, value in fields.items()}
        end_frame = values.pop("end_frame", b"")
        texts = {name: value.decode() for name, value in values.items()}
        return msgspec.convert({**texts, "end_frame": end_frame}, cls, strict=False)

    @property
    def ended(self) -> bool:
        """Whether the terminal entry has been written."""
        return self.status in ENDED

    @property
    def end(self) -> Completed | Failed | Cancelled | None:
        """The terminal event, once there is one."""
        if not self.end_frame:
            return None
        event = decode_frame(self.end_frame)
        assert isinstance(event, Completed | Failed | Cancelled)
        return event
