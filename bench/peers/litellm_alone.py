"""litellm with nothing around it: `python -m bench.peers.litellm_alone PORT MODEL_URL`.

One event loop that calls the model as often at once as it is told to. Takes an `Ask` as a line of JSON, answers with a
`Batch` as a line of JSON; listens once it has made its first call.
"""

import asyncio
import os
import sys
import time
from typing import Any

import msgspec
import uvloop

from bench.answers import Answer, Ask, Batch

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm


class Asker:
    """Asks one model server through litellm."""

    def __init__(self, model_url: str) -> None:
        self._model_url = model_url
        litellm.suppress_debug_info = True

    async def ask(self, asked: Ask) -> Batch:
        """All answers to what is asked for, at once."""
        began = time.perf_counter()
        answers = await asyncio.gather(*(self._answer(asked) for _ in range(asked.at_once)))
        return Batch(answers=answers, wall_seconds=time.perf_counter() - began)

    async def _answer(self, asked: Ask) -> Answer:
        began = time.perf_counter()
        first: float | None = None
        said: list[str] = []
        fault = ""
        try:
            stream: Any = await litellm.acompletion(
                model=f"openai/{asked.model}",
                messages=[{"role": "user", "content": asked.message}],
                stream=True,
                api_base=self._model_url,
                api_key="none",
                max_retries=0,
            )
            async for chunk in stream:
                if content := chunk.choices[0].delta.content:
                    first = first or time.perf_counter()
                    said.append(content)
        except Exception as error:  # noqa: BLE001 - whatever it is, this answer does not count
            fault = type(error).__name__
        ended = time.perf_counter()
        return Answer(
            text="".join(said), first_seconds=(first or ended) - began, total_seconds=ended - began, fault=fault
        )


async def serve(port: int, model_url: str) -> None:
    """Answer whoever connects, until the process is ended."""
    asker = Asker(model_url)
    await asker.ask(Ask(model="demo/first=0,rate=0,tokens=3", message="warm up"))

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            batch = await asker.ask(msgspec.json.decode(line, type=Ask))
            writer.write(msgspec.json.encode(batch) + b"\n")
        writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), sys.argv[2]))
