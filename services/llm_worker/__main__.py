"""`python -m services.llm_worker`."""

from services.llm_worker.settings import Settings
from shared.runtime.logging import configure
from shared.runtime.settings import load

settings = load(Settings)
configure("llm_worker", settings.log_level)

# litellm's import takes seconds: only after the settings are known to be right.
from services.llm_worker.main import LlmWorker  # noqa: E402
from shared.runtime.queue_worker import run_until_told  # noqa: E402

run_until_told(LlmWorker(settings))
