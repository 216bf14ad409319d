"""3 PRODUCED: takes jobs from the queue, asks the model, writes the answer into the task's log."""
