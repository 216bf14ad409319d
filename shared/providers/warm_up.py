"""A server on loopback that answers one short stream in the OpenAI protocol, for warming up a client of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_CHUNK = '{"id":"w","object":"chat.completion.chunk","created":0,"model":"w","choices":[%s]%s}'
_CHOICE = '{"index":0,"delta":{%s},"finish_reason":%s}'
_BODY = "".join(
    f"data: {line}\n\n"
    for line in (
        _CHUNK % (_CHOICE % ('"role":"assistant","content":"warm"', "null"), ""),
        _CHUNK % (_CHOICE % ("", '"stop"'), ""),
        _CHUNK % ("", ',"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'),
        "[DONE]",
    )
)
_RESPONSE = (
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    f"Content-Length: {len(_BODY)}\r\n\r\n{_BODY}"
).encode()


@asynccontextmanager
async def answering_server() -> AsyncIterator[str]:
    """Serves until the block is left; yields its base URL."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(_RESPONSE)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.close()
