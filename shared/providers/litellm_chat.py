"""Every provider through litellm: the one place that calls it.

Deliberate:

1. No retry inside litellm: after a first token a retry would say things twice, and before it the client should know.
2. Only the model's name and the messages come from outside. litellm takes bases, keys and headers as arguments too;
   whoever could set those could read our keys.
3. A stream that ends without a finish reason was cut: litellm itself would call that "stop".
4. An empty key counts as none, since compose passes a variable that is not set on as an empty one.
"""

import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import litellm

from shared.contracts.errors import ProviderError
from shared.providers import errors
from shared.providers.chat import Piece, Question
from shared.providers.litellm_ending import close, end_plainly, usage_of
from shared.providers.litellm_errors import is_want_of_a_key, translate
from shared.providers.litellm_repairs import GeminiChunks, repair
from shared.providers.models import route
from shared.providers.warm_up import answering_server


class LitellmChat:
    """Asks models through litellm. For one event loop, since litellm keeps its connections per loop."""

    def __init__(self, *, demo_url: str) -> None:
        self._demo_url = demo_url
        litellm.telemetry = False
        litellm.suppress_debug_info = True
        litellm.drop_params = True
        litellm.callbacks = []
        repair()
        for name in [name for name, value in os.environ.items() if name.endswith("_API_KEY") and not value]:
            del os.environ[name]

    async def warm_up(self) -> None:
        """Make one real call to a server of our own, so that the first user does not wait for lazy imports."""
        async with answering_server() as base_url:
            stream = await litellm.acompletion(
                model="openai/warm-up",
                messages=[{"role": "user", "content": "warm up"}],
                stream=True,
                stream_options={"include_usage": True},
                api_base=base_url,
                api_key="none",
                max_retries=0,
            )
            async with aclosing(stream):
                async for _ in stream:
                    pass

    async def stream(self, question: Question) -> AsyncGenerator[Piece, None]:
        """The answer to a question, piece by piece. Closing the iterator closes the provider's connection.

        Raises ProviderError and nothing else that comes from the provider. No piece comes after the error.
        """
        where = route(question.model, demo_url=self._demo_url)
        stream: Any = None
        began = False
        try:
            stream = await litellm.acompletion(
                model=where.model,
                messages=[{"role": m.role, "content": m.content} for m in question.messages],
                stream=True,
                stream_options={"include_usage": True},
                timeout=question.max_seconds,
                max_retries=0,
                num_retries=0,
                **where.arguments,
            )
            if stream is None:  # litellm's answer to some 422s
                raise errors.ProviderRefusedRequest
            end_plainly(stream)
            async for chunk in stream:
                piece = _piece(chunk)
                began = began or bool(piece.content or piece.reasoning)
                yield piece
            ended = _has_ended(stream)
            yield Piece(usage=usage_of(stream))
        except ProviderError:
            raise
        except Exception as error:
            if stream is None and "api_key" not in where.arguments and is_want_of_a_key(error, where.model):
                raise errors.ProviderRefusedKey from error
            raise translate(error, began=began) from error
        finally:
            if stream is not None:
                await close(stream)
        if not ended:
            raise errors.ProviderCut


def _has_ended(stream: Any) -> bool:
    """Whether the provider said that its answer is whole."""
    if isinstance(stream.completion_stream, GeminiChunks):
        return stream.completion_stream.has_ended
    return bool(stream.received_finish_reason or stream.intermittent_finish_reason)


def _piece(chunk: Any) -> Piece:
    choice = chunk.choices[0] if chunk.choices else None
    delta = choice.delta if choice is not None else None
    return Piece(
        content=_whole(getattr(delta, "content", None) or ""),
        reasoning=_whole(getattr(delta, "reasoning_content", None) or ""),
        finish_reason=choice.finish_reason if choice is not None else None,
    )


def _whole(text: str) -> str:
    """Text without lone surrogates, which a provider's JSON may hold and UTF-8 may not."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
