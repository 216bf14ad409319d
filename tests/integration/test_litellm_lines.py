"""The lines of a provider's stream end where text/event-stream says, however the bytes arrive."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from shared.providers.litellm_repairs import repair

#: Of each kind of line: ended by LF, ended by CRLF, empty, holding what httpx takes for an end, and not ended.
STREAM = "data: a\u2028b\u2029c\x85d\x0b\x0c\x1ce\r\n\r\ndata: 駅伝\n\ndata: last".encode()

LINES = ["data: a\u2028b\u2029c\x85d\x0b\x0c\x1ce", "", "data: 駅伝", "", "data: last"]


class Body(httpx.AsyncByteStream):
    """A body in pieces of one size, which knows whether it was closed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(STREAM), self._size):
            yield STREAM[start : start + self._size]

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_only_line_feeds_end_a_line(size: int) -> None:
    repair()
    response = httpx.Response(200, stream=Body(size))

    async def read() -> list[str]:
        return [line async for line in response.aiter_lines()]

    assert asyncio.run(read()) == LINES


def test_a_stream_that_is_left_is_closed() -> None:
    repair()
    body = Body(1)
    lines = httpx.Response(200, stream=body).aiter_lines()

    async def leave() -> None:
        await anext(lines)
        await lines.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())

    assert body.is_closed
