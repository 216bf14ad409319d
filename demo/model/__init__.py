"""The demo model: a small server that speaks the OpenAI protocol and misbehaves on request.

Start it with ``python -m demo.model``. What it does is asked for in the model's name, see `behaviour`.
"""
