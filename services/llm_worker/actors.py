"""The actors of the llm_worker: what a job from the queue sets in motion."""

import structlog
from dramatiq import Broker
from dramatiq.actor import actor

from services.llm_worker.generations import Generations
from shared.contracts.ids import is_task_id
from shared.contracts.jobs import GENERATE_ANSWER, LLM_QUEUE


def register_actors(broker: Broker, generations: Generations) -> None:
    """Declare the actors on `broker`. No actor has retries or delays: the ledger has them."""

    @actor(broker=broker, actor_name=GENERATE_ANSWER, queue_name=LLM_QUEUE)  # type: ignore[untyped-decorator]
    async def generate_answer(task_id: str, request_id: str = "") -> None:
        """Answer the message that created the task. Called twice for one task, the second call does nothing."""
        if not isinstance(task_id, str) or not is_task_id(task_id):
            raise ValueError("a job without a task id")
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await generations.run(task_id)
