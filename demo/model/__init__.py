"""The demo model: a small server that speaks three providers' protocols and misbehaves on request.

Start it with ``python -m demo.model``. It is asked as OpenAI, as Anthropic or as Gemini is asked; what it does is
asked for in the model's name, see `behaviour`.
"""
