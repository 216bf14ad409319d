"""The client of an event loop: everybody's commands on one connection, in order, and an end to every wait."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

from demo.embedded_store import EmbeddedStore
from shared.runtime.pipelined import PipelinedClient


@asynccontextmanager
async def a_client(url: str, timeout_seconds: float = 5.0) -> AsyncIterator[PipelinedClient]:
    client = PipelinedClient(url, timeout_seconds=timeout_seconds)
    try:
        yield client
    finally:
        await client.aclose()


async def test_everybody_gets_the_replies_to_their_own_commands(store_url: str) -> None:
    async with a_client(store_url) as client:

        async def echo(number: int) -> list[bytes]:
            return await client.execute_all([("ECHO", f"{number}-{place}") for place in range(number % 4 + 1)])

        replies = await asyncio.gather(*(echo(number) for number in range(500)))

    assert replies == [[f"{n}-{place}".encode() for place in range(n % 4 + 1)] for n in range(500)]


async def test_an_error_stands_in_the_place_of_its_reply(store_url: str) -> None:
    async with a_client(store_url) as client:
        replies = await client.execute_all([("SET", "k", "v"), ("INCR", "k"), ("GET", "k")])

        with pytest.raises(redis.ResponseError):
            await client.execute("INCR", "k")

    assert replies[0] == b"OK"
    assert isinstance(replies[1], redis.ResponseError)
    assert replies[2] == b"v"


async def test_nothing_to_send_is_nothing_to_wait_for(store_url: str) -> None:
    async with a_client(store_url) as client:
        assert await client.execute_all([]) == []


async def test_a_connection_that_was_cut_is_made_again(store_url: str) -> None:
    async with a_client(store_url) as client:
        with redis.Redis.from_url(store_url) as other:
            for number in range(20):
                await client.execute("SET", "number", number)
                other.client_kill_filter(_type="normal", skipme=True)

                assert await client.execute("GET", "number") == str(number).encode()


async def test_a_server_that_hangs_up_at_once_fails_every_command(store_url: str) -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, a_client(f"redis://127.0.0.1:{port}/0", timeout_seconds=30) as client:
        for _ in range(200):
            async with asyncio.timeout(5):
                with pytest.raises(redis.ConnectionError):
                    await client.execute("PING")


async def test_connections_that_are_cut_all_the_time_lose_no_command(store_url: str) -> None:
    async with a_client(store_url, timeout_seconds=30) as client:
        counted = 0

        async def count() -> None:
            nonlocal counted
            while True:
                try:
                    await client.execute("INCR", "counted")
                except redis.ConnectionError:
                    continue
                counted += 1
                return

        with redis.Redis.from_url(store_url) as other:
            for _ in range(50):
                work = [asyncio.create_task(count()) for _ in range(20)]
                await asyncio.sleep(0)
                await asyncio.to_thread(other.client_kill_filter, _type="normal", skipme=True)
                async with asyncio.timeout(10):
                    await asyncio.gather(*work)

            assert counted == 1000
            assert int(other.get("counted") or 0) >= 1000


async def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(store_url: str) -> None:
    async with a_client(store_url, timeout_seconds=0.3) as client:
        await client.execute("PING")
        with redis.Redis.from_url(store_url) as other:
            other.execute_command("CLIENT", "PAUSE", 2000, "ALL")
        began = time.monotonic()

        outcomes = await asyncio.gather(*(client.execute("PING") for _ in range(10)), return_exceptions=True)

        assert all(isinstance(outcome, redis.TimeoutError) for outcome in outcomes)
        assert 0.3 <= time.monotonic() - began < 1.5


async def test_a_loop_that_was_busy_does_not_blame_the_server(store_url: str) -> None:
    async with a_client(store_url, timeout_seconds=0.2) as client:
        await client.execute("PING")
        asked = asyncio.create_task(client.execute("ECHO", "still there"))
        await asyncio.sleep(0)

        time.sleep(0.5)  # noqa: ASYNC251 - the loop does nothing else, and the reply waits in the socket

        assert await asked == b"still there"


async def test_a_server_that_is_not_there_is_an_error_at_once(own_store: EmbeddedStore) -> None:
    async with a_client(own_store.url) as client:
        await client.execute("SET", "k", "v")
        own_store.kill()

        with pytest.raises(redis.ConnectionError):
            await client.execute("GET", "k")
        own_store.start()

        assert await client.execute("PING") == b"PONG"


async def test_a_wait_that_is_given_up_leaves_the_order_of_replies_as_it_is(store_url: str) -> None:
    async with a_client(store_url) as client:
        await client.execute("PING")
        for number in range(50):
            given_up = asyncio.create_task(client.execute("ECHO", "nobody waits for this"))
            await asyncio.sleep(0)
            given_up.cancel()

            assert await client.execute("ECHO", number) == str(number).encode()


async def test_it_logs_in_and_chooses_its_database(own_store: EmbeddedStore) -> None:
    with redis.Redis.from_url(own_store.url) as other:
        other.config_set("requirepass", "p@ss")
    url = own_store.url.replace("redis://", "redis://:p%40ss@").replace("/0", "/3")

    async with a_client(url) as client, a_client(own_store.url) as stranger:
        await client.execute("SET", "k", "v")
        info = await client.execute("INFO", "keyspace")

        with pytest.raises(redis.ResponseError, match="NOAUTH"):
            await stranger.execute("GET", "k")

    assert b"db3:keys=1" in info
