"""Settings of the feedback_worker, from the environment."""

from pydantic import Field

from shared.contracts.jobs import ANALYTICS_QUEUE, DEFAULT_QUEUE, FEEDBACK_QUEUE
from shared.runtime.settings import BrokerSettings, EkidenSettings, PoolSettings, StoreSettings, names_in


class Settings(EkidenSettings, StoreSettings, PoolSettings, BrokerSettings):
    """What an operator may set."""

    ops_port: int = Field(9104, ge=1, le=65535)
    #: Queues served off the interactive path, separated by commas.
    feedback_queues: str = f"{FEEDBACK_QUEUE},{ANALYTICS_QUEUE},{DEFAULT_QUEUE}"
    #: Jobs at a time that nobody waits for at a screen.
    feedback_threads: int = Field(8, ge=1, le=1000)
    #: Seconds that running jobs get to end after SIGTERM; what remains goes back to its queue.
    feedback_drain_seconds: float = Field(30, ge=0, le=3600)

    @property
    def queues(self) -> set[str]:
        """The queues served."""
        return names_in(self.feedback_queues)
