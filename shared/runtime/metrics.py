"""Every metric of Ekiden, in one place: seconds, bytes, and no id in a label.

A metric is here because somebody would act on it. A process shows those of its own service.
"""

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

#: Seconds a person waits: fine below one second, coarse above.
_WAIT_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

TASKS_CREATED = Counter("ekiden_tasks_created", "Tasks accepted by the API.")
TASKS_ENDED = Counter("ekiden_tasks_ended", "Tasks ended by this worker.", ["outcome"])
QUEUE_SECONDS = Histogram("ekiden_queue_wait_seconds", "From the POST to a worker's claim.", buckets=_WAIT_BUCKETS)
FIRST_TOKEN_SECONDS = Histogram(
    "ekiden_first_token_seconds", "From a worker's claim to the model's first text.", buckets=_WAIT_BUCKETS
)
RUNNING = Gauge("ekiden_tasks_running", "Tasks that this worker is answering.")
TAKEOVERS = Counter("ekiden_takeovers", "Tasks queued again because their worker was lost or handed them over.")
APPENDS_REFUSED = Counter("ekiden_appends_refused", "Batches the ledger refused.", ["reason"])
SUBSCRIBERS = Gauge("ekiden_subscribers", "Open event streams of this gateway.")
RESYNCS = Counter("ekiden_resyncs", "Streams that had to be given a snapshot.", ["reason"])
LOG_READS = Counter("ekiden_log_reads", "Reads of a log by this gateway.")
