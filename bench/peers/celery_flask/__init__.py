"""The old design: Flask queues a Celery task, its worker publishes each token, Flask streams what is published.

It keeps no session, no log and no state, and Redis writes nothing to disk: all of that is to its advantage.
`channel.py` is what its two halves share.
"""
