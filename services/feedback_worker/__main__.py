"""`python -m services.feedback_worker`."""

from services.feedback_worker.main import FeedbackWorker
from services.feedback_worker.settings import Settings
from shared.runtime.logging import configure
from shared.runtime.queue_worker import run_until_told
from shared.runtime.settings import load

settings = load(Settings)
configure("feedback_worker", settings.log_level)
run_until_told(FeedbackWorker(settings))
