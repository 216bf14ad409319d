"""The Flask half: `gunicorn bench.peers.celery_flask.web:create_app()`. Queues a task, streams what it publishes."""

import uuid
from collections.abc import Iterator

import redis
from celery import Celery
from flask import Flask, Response, request

from bench.peers.celery_flask import channel


def create_app() -> Flask:
    """The WSGI app. It names the Celery task without importing it: litellm stays in the worker."""
    app = Flask(__name__)
    queue = Celery("old_design", broker=channel.STORE_URL)
    queue.conf.task_ignore_result = True
    store = redis.Redis.from_url(channel.STORE_URL)

    @app.get("/healthz")
    def health() -> str:
        return "ok"

    @app.post("/chat/stream")
    def stream() -> Response:
        asked = request.get_json()
        task_id = uuid.uuid4().hex
        subscription = store.pubsub()
        subscription.subscribe(channel.name(task_id))
        subscription.get_message(timeout=1.0)  # the acknowledgement: from here on nothing is missed
        queue.send_task("answer", args=(asked["model"], asked["message"]), task_id=task_id)
        headers = {"Cache-Control": "no-cache", "X-Task-ID": task_id}
        return Response(_published(subscription), mimetype="text/event-stream", headers=headers)

    return app


def _published(subscription: redis.client.PubSub) -> Iterator[bytes]:
    with subscription:
        for message in subscription.listen():
            if message["type"] != "message":
                continue
            yield message["data"]
            if message["data"].startswith(channel.ENDINGS):
                return
