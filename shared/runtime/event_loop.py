"""The event loop that a worker's async actors run on.

Dramatiq runs an async actor on one loop thread while one of its worker threads waits for it.
"""

import asyncio
from typing import Any, Final

import uvloop
from dramatiq import Middleware
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.logging import get_logger

#: Seconds after which a waiting worker thread looks whether it was interrupted. Nothing interrupts ours, and at
#: Dramatiq's 0.1 s the looks of 500 waiting threads take 20 % of a core, at 1 s 2 %.
INTERRUPT_CHECK_SECONDS: Final = 1.0


def is_cancelled() -> bool:
    """Whether the task that asks has been cancelled. For loops that go on after an error.

    On Python 3.11 `asyncio.wait_for`, which libraries use, loses a cancellation that comes together with an error.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class UvloopThread(EventLoopThread):  # type: ignore[misc]
    """Dramatiq's loop thread on uvloop: about twice the tokens a CPU second."""

    def __init__(self) -> None:
        super().__init__(get_logger(__name__, type(self)), interrupt_check_ival=INTERRUPT_CHECK_SECONDS)
        default: asyncio.AbstractEventLoop = self.loop
        default.close()
        self.loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
        self.daemon = True


class EventLoop(Middleware):  # type: ignore[misc]
    """Gives Dramatiq's async actors `thread` to run on. Whoever made the thread starts and stops it."""

    def __init__(self, thread: UvloopThread) -> None:
        self._thread = thread

    def before_worker_boot(self, broker: Any, worker: Any) -> None:
        """Called by Dramatiq before the first job."""
        set_event_loop_thread(self._thread)


class DeadLetters(Middleware):  # type: ignore[misc]
    """A job whose actor raised goes to the dead letters: nothing of it is tried again by the queue."""

    def after_process_message(
        self, broker: Any, message: Any, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Called by Dramatiq after each job."""
        if exception is not None:
            message.fail()
