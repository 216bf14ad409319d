"""Three faults of litellm 1.106.2 on providers that do not speak the OpenAI protocol, repaired where they are.

1. It reads streams by httpx's idea of a line, which ends at U+2028 and U+0085 as well. JSON may hold these as they
   are, and the rest of an answer behind one is lost. In text/event-stream only CR and LF end a line.
2. Of Gemini it reports a finish reason with every chunk, so that a stream that broke off looks like one that ended.
3. To a Gemini model that its own list does not name (any that is newer, or as old as gemini-1.5-flash) it sends the
   system message as the user's words.

Deliberate: each repair replaces one name of a library whose version is pinned, and a test of each fails once it is
no longer needed or no longer works. litellm has no hook at any of the three places.
"""

from collections.abc import AsyncGenerator
from typing import Any

import httpx
from litellm.llms.vertex_ai.gemini import transformation
from litellm.llms.vertex_ai.gemini import vertex_and_google_ai_studio_gemini as gemini


def repair() -> None:
    """Make the repairs, for this process. To do it twice changes nothing."""
    httpx.Response.aiter_lines = _lines  # type: ignore[method-assign,assignment]
    gemini.ModelResponseIterator = GeminiChunks
    transformation.get_supports_system_message = _takes_system_message


async def _lines(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The lines of a response, ended by LF or CRLF. Closes the response, however it is left."""
    begun: list[bytes] = []
    try:
        async for part in response.aiter_bytes():
            *ends, rest = part.split(b"\n")
            for end in ends:
                yield _line([*begun, end])
                begun.clear()
            begun.append(rest)
        if any(begun):
            yield _line(begun)
    finally:
        await response.aclose()


def _line(parts: list[bytes]) -> str:
    return b"".join(parts).removesuffix(b"\r").decode(errors="replace")


class GeminiChunks(gemini.ModelResponseIterator):  # type: ignore[misc]  # litellm has no types for us
    """Knows whether the provider itself said that its answer is whole, or that it will give none."""

    has_ended = False

    def chunk_parser(self, chunk: dict[str, Any]) -> Any:
        if any(candidate.get("finishReason") for candidate in chunk.get("candidates") or ()):
            self.has_ended = True
        if (chunk.get("promptFeedback") or {}).get("blockReason"):
            self.has_ended = True
        return super().chunk_parser(chunk)


_supports_system_message = transformation.get_supports_system_message


def _takes_system_message(model: str, custom_llm_provider: str) -> bool:
    """All of Gemini do; Gemma, behind the same API, does not."""
    return model.startswith("gemini-") or bool(_supports_system_message(model, custom_llm_provider))
