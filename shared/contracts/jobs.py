"""What travels on a Dramatiq queue: ids, never content.

A job is a hint that work waits. It may come twice or never; the ledger decides what is done.
"""

from typing import Final

import msgspec

#: Queue of interactive answers, served by services/llm_worker.
LLM_QUEUE: Final = "llm"

#: Queues that nobody waits for at a screen, served by services/feedback_worker.
FEEDBACK_QUEUE: Final = "feedback"
ANALYTICS_QUEUE: Final = "analytics"
DEFAULT_QUEUE: Final = "default"


class GenerateAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer the message that created the task. `number` tells a task's later jobs from its first."""

    task_id: str
    number: int = 1
    queue: str = LLM_QUEUE
    request_id: str = ""

    @property
    def id(self) -> str:
        """The job's name in the broker: enqueued again under the same name it stays one job."""
        return f"{self.task_id}:{self.number}"


#: The actor that runs each job, by the name under which the API and the sweep enqueue it.
GENERATE_ANSWER: Final = "generate_answer"
