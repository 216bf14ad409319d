"""The end of litellm's streams: without what it does for its own books after the last token, and closed for certain.

Deliberate:

1. At the end litellm puts the whole answer together again, twice, copies it, looks its price up and logs it.
   Of all that only the usage is wanted here, and it stands in the chunks. The rest is a third of an answer's CPU time,
   in the event loop that all other answers wait for.
2. For some providers litellm's `aclose` closes nothing and leaves the connection to the garbage collector. The provider
   would go on and bill.
"""

from typing import Any

from shared.contracts.events import Usage


def end_plainly(stream: Any) -> None:
    """Let a stream of litellm's end with its last chunk. Its finish reason still comes."""
    finish = stream._finalize_completed_stream

    async def end(*, cache_hit: bool) -> Any:
        if stream.sent_last_chunk:
            raise StopAsyncIteration
        return await finish(cache_hit=cache_hit)

    stream._finalize_completed_stream = end


async def close(stream: Any) -> None:
    """Close a stream of litellm, and the connection to the provider with it."""
    lines: Any = getattr(stream.completion_stream, "streaming_response", None)
    await stream.aclose()
    if hasattr(lines, "aclose"):
        await lines.aclose()


def usage_of(stream: Any) -> Usage | None:
    """What the provider has counted; None where it said nothing. Some tell input and output in chunks of their own."""
    told = [usage for chunk in stream.chunks if (usage := getattr(chunk, "usage", None)) is not None]
    if not told:
        return None
    return Usage(
        input_tokens=next((usage.prompt_tokens for usage in reversed(told) if usage.prompt_tokens), 0),
        output_tokens=next((usage.completion_tokens for usage in reversed(told) if usage.completion_tokens), 0),
    )
