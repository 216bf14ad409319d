"""The Celery half: `celery -A bench.peers.celery_flask.worker worker` calls the model and publishes each token.

Each process answers one question at a time, on an event loop that it keeps: litellm's asynchronous calls carry almost
twice as many tokens a second as its others, and keep their connections from one answer to the next.
"""

import asyncio
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# Imported before Celery forks, so that its processes share what the import took.
import litellm
import redis
from celery import Celery
from celery.signals import worker_process_init
from celery.utils.log import get_logger

from bench.peers.celery_flask import channel

#: The model server, as an OpenAI base URL.
MODEL_URL = os.environ.get("PEER_MODEL_URL", "http://127.0.0.1:8082/v1")

#: What each process of the pool logs once it may be asked.
WARM = "litellm is warm"

#: Seconds that a process of the pool may take until it is ready: its first call to litellm is part of that.
START_SECONDS = 60.0

litellm.suppress_debug_info = True

app = Celery("old_design", broker=channel.STORE_URL)
app.conf.update(
    task_ignore_result=True,  # the answer leaves through the channel
    worker_prefetch_multiplier=1,  # Celery's advice for tasks that take long
    worker_proc_alive_timeout=START_SECONDS,
    broker_connection_retry_on_startup=True,
)
store = redis.Redis.from_url(channel.STORE_URL)


loop = asyncio.new_event_loop()


@worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Make one call, so that nobody waits for what litellm imports at its first."""
    loop.run_until_complete(_relay("demo/first=0,rate=0,tokens=3", "warm up", channel.name("warm-up")))
    get_logger(__name__).info(WARM)


@app.task(name="answer")
def answer(model: str, message: str) -> None:
    """Ask the model; publish what it says, token by token, on the task's channel."""
    name = channel.name(answer.request.id)
    try:
        loop.run_until_complete(_relay(model, message, name))
    except Exception:
        store.publish(name, channel.event("failed"))
        raise
    store.publish(name, channel.event("completed"))


async def _relay(model: str, message: str, name: str) -> None:
    chunks: Any = await litellm.acompletion(
        model=f"openai/{model}",
        messages=[{"role": "user", "content": message}],
        stream=True,
        api_base=MODEL_URL,
        api_key="none",
        max_retries=0,
    )
    async for chunk in chunks:
        if content := chunk.choices[0].delta.content:
            store.publish(name, channel.event("delta", content=content))
