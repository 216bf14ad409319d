"""2 QUEUED: a job of the contract becomes a Dramatiq message, without the worker's code being imported."""

from typing import Any

from dramatiq import Message

from shared.contracts.jobs import GENERATE_ANSWER, GenerateAnswer


def as_message(job: GenerateAnswer) -> Message[Any]:
    """The message that runs a job. Its id is the job's name; it carries ids and nothing else."""
    return Message(
        queue_name=job.queue,
        actor_name=GENERATE_ANSWER,
        args=(job.task_id,),
        kwargs={"request_id": job.request_id},
        options={},
        message_id=job.id,
    )
