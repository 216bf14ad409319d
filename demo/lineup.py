"""Who runs in `make run`, in the order in which they must be ready: store, demo model, then the services."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from demo.embedded_store import EmbeddedStore
from demo.environment import environment_of
from demo.ports import Port
from demo.processes import Child
from demo.readiness import answers_ok, answers_ping
from demo.settings import SERVICES, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """A process of the relay: how it starts, and when it is ready for the next one."""

    child: Child
    start: Callable[[], None]
    is_ready: Callable[[], bool]


def ports(settings: Settings) -> list[Port]:
    """Every port that will be listened on."""
    local = "127.0.0.1"
    listed = [
        ("api", settings.http_host, settings.http_port, "EKIDEN_HTTP_PORT"),
        ("sse_gateway", settings.gateway_host, settings.gateway_port, "EKIDEN_GATEWAY_PORT"),
        ("demo_model", local, settings.demo_port, "EKIDEN_DEMO_PORT"),
        *((f"ops of {name}", local, settings.ops_port(name), "EKIDEN_OPS_PORT") for name in SERVICES),
    ]
    if settings.store_url is None:
        listed.append(("store", local, settings.store_port, "EKIDEN_STORE_PORT"))
    return [Port(service=who, host=host, number=number, setting=setting) for who, host, number, setting in listed]


def stages(settings: Settings) -> list[list[Runner]]:
    """Everything to run. Those of one stage start side by side, once all of the stage before are ready."""
    before: list[list[Runner]] = []
    store_url = settings.store_url
    if store_url is None:
        store = EmbeddedStore(
            (settings.run_directory / "store").resolve(),
            settings.store_port,
            append_only=True,
            log=settings.log_directory / "store.log",
        )
        store_url = store.url
        before.append(
            [Runner(child=store.child, start=store.launch, is_ready=partial(answers_ping, store_url))],
        )
    model = _child("demo_model", "demo.model", settings, store_url)
    services = [_child(name, f"services.{name}", settings, store_url) for name in ("llm_worker", "api", "sse_gateway")]
    return [
        *before,
        [Runner(child=model, start=model.start, is_ready=partial(answers_ok, settings.demo_port, "/healthz"))],
        [
            Runner(
                child=service,
                start=service.start,
                is_ready=partial(answers_ok, settings.ops_port(service.name), "/readyz"),
            )
            for service in services
        ],
    ]


def _child(name: str, module: str, settings: Settings, store_url: str) -> Child:
    return Child(
        name,
        command=[sys.executable, "-m", module],
        environment=environment_of(name, settings, store_url, os.environ),
        log=settings.log_directory / f"{name}.log",
    )
