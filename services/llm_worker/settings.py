"""Settings of the llm_worker, from the environment."""

import os
import socket
from typing import Self

from pydantic import Field, model_validator

from shared.contracts.jobs import LLM_QUEUE
from shared.runtime.settings import (
    BrokerSettings,
    EkidenSettings,
    LedgerSettings,
    PoolSettings,
    StoreSettings,
    names_in,
)


class Settings(EkidenSettings, StoreSettings, PoolSettings, BrokerSettings, LedgerSettings):
    """What an operator may set."""

    ops_port: int = Field(9103, ge=1, le=65535)
    #: Queues served, separated by commas.
    worker_queues: str = LLM_QUEUE
    #: Answers at a time. Each holds a thread that only waits (60 kB of memory) while one event loop does the work;
    #: litellm's CPU time, not the threads, is what ends first.
    worker_threads: int = Field(256, ge=1, le=2000)
    #: Jobs fetched at a time, running ones included; 0 for as many as there are threads. More would hoard jobs that
    #: another worker could start.
    worker_prefetch: int = Field(0, ge=0, le=65535)
    #: Seconds that running answers get to end after SIGTERM; what remains is handed to the next worker.
    worker_drain_seconds: float = Field(30, ge=0, le=3600)
    #: The demo model, as an OpenAI base URL.
    demo_url: str = Field("http://127.0.0.1:8082/v1", pattern="^https?://")

    #: Seconds until the first piece of an answer, or the provider counts as silent.
    first_token_seconds: float = Field(60, gt=0)
    #: Seconds between two pieces, or the provider counts as silent.
    idle_seconds: float = Field(30, gt=0)
    #: Seconds after which an answer is ended cleanly with the text so far.
    soft_limit_seconds: float = Field(120, gt=0)
    #: Seconds after which a task that has not ended by then fails.
    hard_limit_seconds: float = Field(180, gt=0)
    #: Bytes of UTF-8 after which an answer is ended cleanly: bounds what one log can take in the store.
    max_answer_bytes: int = Field(4 * 1024 * 1024, ge=1024)

    @model_validator(mode="after")
    def _soft_limit_comes_first(self) -> Self:
        if self.soft_limit_seconds >= self.hard_limit_seconds:
            raise ValueError("EKIDEN_SOFT_LIMIT_SECONDS must be below EKIDEN_HARD_LIMIT_SECONDS")
        return self

    @property
    def queues(self) -> set[str]:
        """The queues served."""
        return names_in(self.worker_queues)

    @property
    def worker_name(self) -> str:
        """Who holds a lease, for people who look."""
        return f"{socket.gethostname()}:{os.getpid()}"
