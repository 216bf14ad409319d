"""The subscriber connection: whatever happens to it, it comes back, and says so."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import redis

from demo.embedded_store import EmbeddedStore
from shared.runtime.pubsub import Subscriptions
from tests.integration.conftest import until

CHANNEL = b"ekiden:{0a}:live:task"

PASSWORD = "a pass/word@with:signs%"
PASSWORD_IN_URL = "a%20pass%2Fword%40with%3Asigns%25"


class Ear:
    """Subscriptions that run, and what they were told."""

    def __init__(self, url: str, *, sharded: bool = True) -> None:
        self.messages: list[tuple[bytes, bytes]] = []
        self.acknowledged: list[bytes] = []
        self.subscriptions = Subscriptions(
            url,
            sharded=sharded,
            on_message=lambda channel, payload: self.messages.append((channel, payload)),
            on_subscribed=self.acknowledged.append,
        )

    def subscribe(self, channel: bytes = CHANNEL) -> None:
        """Ask for a channel."""
        self.subscriptions.subscribe(channel)

    async def subscribed(self, count: int = 1, channel: bytes = CHANNEL) -> None:
        """Return once a channel has been acknowledged so many times."""
        await until(lambda: self.acknowledged.count(channel) >= count, what=f"acknowledgement {count}")

    async def hears(self, payload: bytes) -> None:
        """Return once a message has come."""
        await until(lambda: payload in [each for _, each in self.messages], what=f"{payload!r}")


class Wire:
    """A TCP proxy to the store that can fall silent without closing anything, as a lost link does."""

    def __init__(self, store_url: str) -> None:
        self._port = int(store_url.rsplit(":", 1)[1].split("/")[0])
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self.url = ""
        self.accepted = 0

    async def open(self) -> asyncio.Server:
        """Begin to forward."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        return server

    def cut(self) -> None:
        """Nothing of the connections that exist comes through any more, and they stay open."""
        for pump in self._pumps:
            pump.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, store_writer]
        for source, sink in ((reader, store_writer), (store_reader, writer)):
            self._pumps.add(asyncio.create_task(_pump(source, sink)))

    async def close(self) -> None:
        """Let everything go."""
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
    sink.close()


@asynccontextmanager
async def listening(ear: Ear) -> AsyncIterator[Ear]:
    """Subscriptions that run, and end with the test."""
    running = asyncio.create_task(ear.subscriptions.run())
    yield ear
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def plain_client(store_url: str) -> Iterator[redis.Redis]:
    """A client that publishes."""
    with redis.Redis.from_url(store_url) as client:
        yield client


def spublish(client: redis.Redis, payload: bytes, channel: bytes = CHANNEL) -> int:
    """Publish on a sharded channel; how many heard it."""
    heard: int = client.execute_command("SPUBLISH", channel, payload)
    return heard


async def test_what_is_published_comes_as_it_is(store_url: str, plain_client: redis.Redis) -> None:
    payloads = [b"1-0 0-0 created event: x\ndata: {}\n\n", b"", b"\x00\r\n\xff", b"$5\r\nhello\r\n", b"x" * 2_000_000]
    async with listening(Ear(store_url)) as ear:
        ear.subscribe()
        await ear.subscribed()

        for payload in payloads:
            spublish(plain_client, payload)

        await until(lambda: len(ear.messages) == len(payloads))
        assert ear.messages == [(CHANNEL, payload) for payload in payloads]


async def test_a_channel_asked_for_before_the_connection_is_acknowledged(store_url: str) -> None:
    ear = Ear(store_url)
    ear.subscribe()

    async with listening(ear):
        await ear.subscribed()

    assert ear.acknowledged == [CHANNEL]


async def test_a_channel_asked_for_during_the_connection_is_acknowledged(store_url: str) -> None:
    async with listening(Ear(store_url)) as ear:
        await until(lambda: ear.subscriptions.connected)

        ear.subscribe()

        await ear.subscribed()
        assert ear.acknowledged == [CHANNEL]


async def test_channels_are_kept_apart(store_url: str, plain_client: redis.Redis) -> None:
    channels = [b"ekiden:{%02x}:live:task" % number for number in range(64)]
    async with listening(Ear(store_url)) as ear:
        for channel in channels:
            ear.subscribe(channel)
        await until(lambda: len(ear.acknowledged) == len(channels))

        for channel in channels:
            spublish(plain_client, b"for " + channel, channel)

        await until(lambda: len(ear.messages) == len(channels))
        assert sorted(ear.messages) == [(channel, b"for " + channel) for channel in channels]


async def test_plain_channels_are_heard_too(store_url: str, plain_client: redis.Redis) -> None:
    async with listening(Ear(store_url, sharded=False)) as ear:
        ear.subscribe(b"ekiden:cancel")
        await ear.subscribed(channel=b"ekiden:cancel")

        plain_client.publish("ekiden:cancel", "task_1")

        await ear.hears(b"task_1")


async def test_a_channel_that_was_let_go_is_heard_no_more(store_url: str, plain_client: redis.Redis) -> None:
    other = b"ekiden:{0b}:live:other"
    async with listening(Ear(store_url)) as ear:
        for channel in (CHANNEL, other):
            ear.subscribe(channel)
            await ear.subscribed(channel=channel)

        ear.subscriptions.unsubscribe(CHANNEL)

        await until(lambda: spublish(plain_client, b"unheard") == 0)
        before = len(ear.messages)
        spublish(plain_client, b"heard", other)
        await ear.hears(b"heard")
        assert len(ear.messages) == before + 1


async def test_a_channel_that_was_let_go_is_not_taken_up_again_by_a_reconnect(
    store_url: str, plain_client: redis.Redis
) -> None:
    other = b"ekiden:{0b}:live:other"
    async with listening(Ear(store_url)) as ear:
        for channel in (CHANNEL, other):
            ear.subscribe(channel)
            await ear.subscribed(channel=channel)
        ear.subscriptions.unsubscribe(CHANNEL)

        plain_client.client_kill_filter(_type="pubsub")

        await ear.subscribed(2, channel=other)
        assert ear.acknowledged.count(CHANNEL) == 1
        assert spublish(plain_client, b"unheard") == 0


async def test_a_channel_may_be_asked_for_again(store_url: str, plain_client: redis.Redis) -> None:
    async with listening(Ear(store_url)) as ear:
        ear.subscribe()
        await ear.subscribed()
        ear.subscriptions.unsubscribe(CHANNEL)

        ear.subscribe()

        await ear.subscribed(2)
        spublish(plain_client, b"heard again")
        await ear.hears(b"heard again")


async def test_every_reconnect_is_told_by_an_acknowledgement(store_url: str, plain_client: redis.Redis) -> None:
    async with listening(Ear(store_url)) as ear:
        ear.subscribe()
        for count in range(1, 6):
            await ear.subscribed(count)
            assert plain_client.client_kill_filter(_type="pubsub") == 1

        await ear.subscribed(6)

        spublish(plain_client, b"after all that")
        await ear.hears(b"after all that")
        assert ear.acknowledged == [CHANNEL] * 6


async def test_a_lost_connection_is_back_at_once(store_url: str, plain_client: redis.Redis) -> None:
    loop = asyncio.get_running_loop()
    async with listening(Ear(store_url)) as ear:
        ear.subscribe()
        await ear.subscribed()
        killed_at = loop.time()

        plain_client.client_kill_filter(_type="pubsub")

        await ear.subscribed(2)
        assert loop.time() - killed_at < 1


async def test_a_store_that_starts_later_is_found(own_store: EmbeddedStore) -> None:
    own_store.kill()
    ear = Ear(own_store.url)
    ear.subscribe()
    async with listening(ear):
        await asyncio.wait_for(_some_failures(), 5)
        assert not ear.subscriptions.connected

        own_store.start()

        await ear.subscribed()


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_store_that_starts_again_is_subscribed_again(own_store: EmbeddedStore, how: str) -> None:
    async with listening(Ear(own_store.url)) as ear:
        ear.subscribe()
        await ear.subscribed()

        own_store.kill() if how == "kill" else own_store.stop()
        await until(lambda: not ear.subscriptions.connected)
        own_store.start()

        await ear.subscribed(2)
        with redis.Redis.from_url(own_store.url) as client:
            spublish(client, b"back")
        await ear.hears(b"back")


async def test_a_password_is_given(own_store: EmbeddedStore) -> None:
    with redis.Redis.from_url(own_store.url) as client:
        client.config_set("requirepass", PASSWORD)
    url = own_store.url.replace("redis://", f"redis://:{PASSWORD_IN_URL}@")

    async with listening(Ear(url)) as ear:
        ear.subscribe()
        await ear.subscribed()

        with redis.Redis.from_url(url) as client:
            spublish(client, b"secret")
        await ear.hears(b"secret")


async def test_a_user_and_password_are_given(own_store: EmbeddedStore) -> None:
    with redis.Redis.from_url(own_store.url) as client:
        client.acl_setuser(
            "ekiden", enabled=True, passwords=[f"+{PASSWORD}"], commands=["+@all"], keys=["*"], channels=["*"]
        )
        client.acl_setuser("default", enabled=False)
    url = own_store.url.replace("redis://", f"redis://ekiden:{PASSWORD_IN_URL}@")

    async with listening(Ear(url)) as ear:
        ear.subscribe()

        await ear.subscribed()


async def test_a_connection_that_was_refused_is_tried_again_until_it_is_let_in(own_store: EmbeddedStore) -> None:
    url = own_store.url.replace("redis://", f"redis://:{PASSWORD_IN_URL}@")
    with redis.Redis.from_url(own_store.url) as client:
        client.config_set("requirepass", "not yet")
        async with listening(Ear(url)) as ear:
            ear.subscribe()
            refused = client.info("stats")["acl_access_denied_auth"]
            await until(lambda: client.info("stats")["acl_access_denied_auth"] > refused + 1)

            client.config_set("requirepass", PASSWORD)

            await ear.subscribed()


async def test_a_link_that_falls_silent_is_noticed_and_replaced(store_url: str, plain_client: redis.Redis) -> None:
    wire = Wire(store_url)
    server = await wire.open()
    async with server, listening(Ear(wire.url)) as ear:
        ear.subscribe()
        await ear.subscribed()

        wire.cut()

        await ear.subscribed(2)
        spublish(plain_client, b"by the new link")
        await ear.hears(b"by the new link")
        await wire.close()


async def test_a_link_on_which_nothing_happens_is_kept(store_url: str) -> None:
    wire = Wire(store_url)
    server = await wire.open()
    loop = asyncio.get_running_loop()
    async with server, listening(Ear(wire.url)) as ear:
        ear.subscribe()
        await ear.subscribed()
        quiet_since = loop.time()

        await until(lambda: loop.time() - quiet_since > 5)

        assert wire.accepted == 1
        assert ear.acknowledged == [CHANNEL]
        await wire.close()


async def _some_failures() -> None:
    """The time in which a few tries must have been made."""
    begin = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() - begin > 0.3)
