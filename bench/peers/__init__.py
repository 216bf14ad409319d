"""What Ekiden is measured beside, each written as the documentation of its parts would have it: none is set up to lose.

`celery_flask`: the design that Ekiden takes the place of. `litellm_alone`: the calls to the model with nothing around
them, which no relay that uses litellm can beat.
"""
