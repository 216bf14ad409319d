"""1 ENTERS: checks a request, stores the message, makes the task, queues its job, hands over to the gateway."""
