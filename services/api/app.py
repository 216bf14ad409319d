"""Wires the API: collaborators in, routes out. No side effects until the first request."""

import falcon

from services.api.acceptance import Acceptance
from services.api.errors import add_error_handlers
from services.api.handoff import Handoff
from services.api.middleware import RequestId, SaneHost
from services.api.resources.chat import Chat
from services.api.resources.models import Models
from services.api.resources.page import add_page
from services.api.resources.sessions import SessionHistory
from services.api.resources.tasks import Tasks
from services.api.settings import Settings
from services.api.urls import PREFIX
from shared.runtime.broker import EkidenBroker
from shared.runtime.idempotency import IdempotencyKeys
from shared.runtime.ledger import Ledger
from shared.runtime.sessions import Sessions
from shared.runtime.store import connect
from shared.runtime.tokens import EventsTokens


def create_app(settings: Settings) -> falcon.App:  # type: ignore[type-arg]
    """The WSGI app."""
    store = connect(
        settings.store_url, pool_size=settings.redis_pool_size, timeout_seconds=settings.store_timeout_seconds
    )
    broker_client = store
    if settings.broker_url:
        broker_client = connect(
            settings.broker_url, pool_size=settings.redis_pool_size, timeout_seconds=settings.store_timeout_seconds
        )
    ledger = Ledger(store, settings)
    sessions = Sessions(store, settings)
    handoff = Handoff(EventsTokens(settings.token_secret.get_secret_value()), settings)
    acceptance = Acceptance(
        ledger=ledger,
        sessions=sessions,
        idempotency=IdempotencyKeys(store),
        broker=EkidenBroker(broker_client),
        model_patterns=settings.model_patterns,
        default_model=settings.default_model,
    )

    app = falcon.App(middleware=[RequestId(), SaneHost()])  # type: ignore[arg-type]
    add_error_handlers(app)
    chat = Chat(acceptance, handoff, max_body_bytes=settings.max_body_bytes)
    tasks = Tasks(ledger, sessions, handoff)
    app.add_route(f"{PREFIX}/chat", chat)
    app.add_route(f"{PREFIX}/chat/stream", chat, suffix="stream")
    app.add_route(f"{PREFIX}/tasks/{{task_id}}", tasks)
    app.add_route(f"{PREFIX}/tasks/{{task_id}}/events", tasks, suffix="events")
    app.add_route(f"{PREFIX}/tasks/{{task_id}}/cancel", tasks, suffix="cancel")
    app.add_route(f"{PREFIX}/sessions/{{session_id}}", SessionHistory(sessions))
    app.add_route(f"{PREFIX}/models", Models(default=settings.default_model, patterns=settings.model_patterns))
    add_page(app, settings)
    return app
