"""The writer of a log on a real store: prompt, in order, and through any outage without loss or repetition."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import redis

from demo.embedded_store import EmbeddedStore
from shared.contracts import keys
from shared.contracts.errors import Fenced, StoreWentBack
from shared.contracts.events import Delta, Event, Reasoning, Started
from shared.contracts.frames import decode_frame
from shared.contracts.ids import new_task_id
from shared.contracts.transcript import Transcript
from shared.runtime.appender import MAX_WAITING_BYTES, Appender, LogWriter
from shared.runtime.ledger import Ledger
from shared.runtime.ledger_async import AsyncLedger, Batch
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.settings import LedgerSettings
from shared.runtime.store import connect
from tests.integration.conftest import Book, assert_unbroken, completed, until

NASTY_TEXT = 'a b\n\r\n\x00\u2028</script> 駅伝 👩‍👩‍👧‍👦 \\ " e\u0301'


class Desk:
    """One task, claimed, and the writer of its log."""

    def __init__(self, book: Book, ledger: AsyncLedger, appender: Appender) -> None:
        self.book, self.ledger, self._appender = book, ledger, appender
        self.task_id = book.new_task()
        self.times_lost = 0

    async def take(self, held_epoch: str = "") -> LogWriter:
        """Claim the task and begin to write."""
        claim = await self.ledger.claim(self.task_id, held_epoch=held_epoch)
        assert claim is not None
        self.epoch = claim.epoch
        return LogWriter(self._appender, claim, on_lost=self._lost)

    def say(self, content: str) -> Delta:
        """A piece of text."""
        return Delta(task_id=self.task_id, content=content)

    def events(self) -> list[Event]:
        """What the log holds behind `created`."""
        return [decode_frame(entry.frame) for entry in self.book.log(self.task_id)[1:]]

    def text(self) -> str:
        """What the log adds up to, once it is known to be sound."""
        log = self.book.log(self.task_id)
        assert_unbroken(log)
        transcript = Transcript()
        for entry in log:
            transcript.add(entry)
        return transcript.content

    def _lost(self) -> None:
        self.times_lost += 1


@asynccontextmanager
async def a_desk(url: str) -> AsyncIterator[Desk]:
    """A desk on the store at `url`. Its own time-out is short: some tests take the store away."""
    threads_client = connect(url, pool_size=2, timeout_seconds=5)
    client = PipelinedClient(url, timeout_seconds=0.5)
    ledger = AsyncLedger(client, LedgerSettings(), worker="worker")
    try:
        yield Desk(Book(threads_client, Ledger(threads_client, LedgerSettings())), ledger, Appender(ledger))
    finally:
        await client.aclose()
        threads_client.connection_pool.disconnect()


async def test_the_first_event_leaves_at_once(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        loop = asyncio.get_running_loop()
        begin = loop.time()

        writer.write(desk.say("a"))

        await until(lambda: desk.events() == [desk.say("a")])
        assert loop.time() - begin < 0.1


async def test_text_that_waits_together_leaves_as_one_piece(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        for number in range(100):
            writer.write(desk.say(f"{number} "))

        await writer.flush()

        assert desk.events() == [desk.say("".join(f"{number} " for number in range(100)))]


async def test_text_that_comes_while_a_batch_is_under_way_leaves_with_the_next(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        writer.write(desk.say("first"))
        await asyncio.sleep(0)  # the first batch is frozen
        for text in ("a", "b", "c"):
            writer.write(desk.say(text))

        await writer.flush()

        assert desk.events() == [desk.say("first"), desk.say("abc")]


async def test_kinds_of_events_are_not_mixed_and_keep_their_order(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        started = Started(task_id=desk.task_id, attempt=1, model="demo", queue_ms=1)
        think = Reasoning(task_id=desk.task_id, content="hm")
        end = completed(desk.task_id, "abcd")
        for event in (started, think, think, desk.say("a"), desk.say("b"), think, desk.say("c"), desk.say("d"), end):
            writer.write(event)

        await writer.flush()

        assert desk.events() == [
            started,
            Reasoning(task_id=desk.task_id, content="hmhm"),
            desk.say("ab"),
            think,
            desk.say("cd"),
            end,
        ]


async def test_any_text_comes_through_whole_and_in_order(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        text = NASTY_TEXT * 300

        for start in range(0, len(text), 7):
            writer.write(desk.say(text[start : start + 7]))
            await asyncio.sleep(0)
        await writer.flush()

        assert desk.text() == text
        assert len(desk.events()) > 10


async def test_a_flush_returns_when_all_stands(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        for number in range(50):
            writer.write(desk.say(f"{number} "))
            await writer.flush()

            assert desk.text().endswith(f"{number} ")


async def test_a_flush_of_nothing_returns(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()

        await asyncio.wait_for(writer.flush(), 1)

        assert desk.events() == []


async def test_many_writers_share_the_way_and_nothing_gets_mixed_up(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        desks = [Desk(desk.book, desk.ledger, desk._appender) for _ in range(50)]
        writers = [await each.take() for each in desks]

        for number in range(40):
            for each, writer in zip(desks, writers, strict=True):
                writer.write(each.say(f"{number} "))
            await asyncio.sleep(0)
        await asyncio.gather(*(writer.flush() for writer in writers))

        assert [each.text() for each in desks] == ["".join(f"{number} " for number in range(40))] * 50


async def test_an_outage_is_waited_out_without_loss_or_repetition(own_store: EmbeddedStore) -> None:
    async with a_desk(own_store.url) as desk:
        writer = await desk.take()
        words = [f"{number} " for number in range(600)]

        for number, word in enumerate(words):
            writer.write(desk.say(word))
            await asyncio.sleep(0.001)
            if number in (100, 300):
                own_store.kill()
            if number in (200, 400):
                own_store.start()
        await asyncio.wait_for(writer.flush(), 20)

        assert desk.text() == "".join(words)
        assert desk.times_lost == 0


async def test_a_store_that_hangs_is_waited_for(own_store: EmbeddedStore) -> None:
    async with a_desk(own_store.url) as desk:
        writer = await desk.take()
        desk.book.client.execute_command("CLIENT", "PAUSE", 1500, "WRITE")

        for number in range(100):
            writer.write(desk.say(f"{number} "))
            await asyncio.sleep(0.01)
        await asyncio.wait_for(writer.flush(), 20)

        assert desk.text() == "".join(f"{number} " for number in range(100))


@pytest.mark.parametrize(
    ("name", "refusing", "serving"),
    [
        ("min-replicas-to-write", "1", "0"),
        ("maxmemory", "1", "0"),
    ],
)
async def test_a_store_that_refuses_writes_for_a_while_is_waited_for(
    own_store: EmbeddedStore, name: str, refusing: str, serving: str
) -> None:
    async with a_desk(own_store.url) as desk:
        writer = await desk.take()
        writer.write(desk.say("before "))
        await writer.flush()
        desk.book.client.config_resetstat()
        desk.book.client.config_set(name, refusing)
        writer.write(desk.say("during "))
        await until(lambda: _refusals(desk.book.client) >= 2)

        desk.book.client.config_set(name, serving)
        writer.write(desk.say("after"))
        await asyncio.wait_for(writer.flush(), 20)

        assert desk.text() == "before during after"


async def test_scripts_that_are_forgotten_again_and_again_lose_no_writer(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        forgetful = PipelinedClient(store_url, timeout_seconds=5)

        async def forget() -> None:
            while True:
                await forgetful.execute("SCRIPT", "FLUSH")

        forgetting = asyncio.create_task(forget())
        for number in range(200):
            writer.write(desk.say(f"{number} "))
            await asyncio.sleep(0.001)
        flushed = await asyncio.gather(asyncio.wait_for(writer.flush(), 20), return_exceptions=True)
        forgetting.cancel()
        await asyncio.gather(forgetting, return_exceptions=True)
        await forgetful.aclose()

        assert flushed == [None]
        assert desk.text() == "".join(f"{number} " for number in range(200))


async def test_an_append_that_is_given_up_ends_at_any_moment_of_an_outage(own_store: EmbeddedStore) -> None:
    client = PipelinedClient(own_store.url, timeout_seconds=0.5)
    ledger = AsyncLedger(client, LedgerSettings(), worker="worker")
    ended = []

    for moment in range(15):
        await client.execute("PING")  # so that there is a connection that breaks
        own_store.kill()
        batch = Batch(task_id=new_task_id(), epoch="1", follows="0-0", entries=(("1-0", "delta", b"x" * 300_000),))
        appending = asyncio.create_task(Appender(ledger).append(batch))
        for _ in range(moment):
            await asyncio.sleep(0)
        appending.cancel()
        ended.append(await _ends(appending, 0.5))
        own_store.start()
    await client.aclose()

    assert ended == [True] * 15


async def test_a_writer_that_is_fenced_says_so_once(store_url: str, ledger: Ledger) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        ledger.cancel(desk.task_id, by="user")

        for _ in range(3):
            writer.write(desk.say("a"))
            with pytest.raises(Fenced):
                await writer.flush()

        assert desk.times_lost == 1
        assert isinstance(writer.lost, Fenced)
        with pytest.raises(Fenced):
            await writer.room()


async def test_a_fenced_writer_does_not_disturb_others(store_url: str, ledger: Ledger) -> None:
    async with a_desk(store_url) as desk:
        other = Desk(desk.book, desk.ledger, desk._appender)
        fenced, free = await desk.take(), await other.take()
        ledger.cancel(desk.task_id, by="user")
        for number in range(20):
            fenced.write(desk.say("a"))
            free.write(other.say(f"{number} "))
            await asyncio.sleep(0)

        await free.flush()

        assert other.text() == "".join(f"{number} " for number in range(20))
        assert (desk.times_lost, other.times_lost) == (1, 0)


async def test_a_store_that_went_back_is_told_apart_and_the_writer_goes_on(store_url: str) -> None:
    async with a_desk(store_url) as desk:
        writer = await desk.take()
        writer.write(desk.say("a"))
        await writer.flush()
        copy = desk.book.copy_of(desk.task_id)
        writer.write(desk.say("b"))
        await writer.flush()
        desk.book.go_back_to(copy)
        writer.write(desk.say("c"))
        with pytest.raises(StoreWentBack):
            await writer.flush()

        again = await desk.take(held_epoch=desk.epoch)
        again.write(desk.say("bc"))
        await again.flush()

        assert desk.text() == "abc"


async def test_there_is_room_while_little_waits(own_store: EmbeddedStore) -> None:
    async with a_desk(own_store.url) as desk:
        writer = await desk.take()
        own_store.kill()
        writer.write(desk.say("first"))
        await asyncio.sleep(0)  # the first batch is frozen
        writer.write(desk.say("x" * MAX_WAITING_BYTES))

        await asyncio.wait_for(writer.room(), 1)

        assert writer.lost is None


@pytest.mark.parametrize("letter", ["x", "駅"], ids=["ascii", "japanese"])
async def test_there_is_no_room_once_256_kib_wait_for_the_store(own_store: EmbeddedStore, letter: str) -> None:
    async with a_desk(own_store.url) as desk:
        writer = await desk.take()
        own_store.kill()
        writer.write(desk.say("first"))
        await asyncio.sleep(0)  # the first batch is frozen
        text = letter * (MAX_WAITING_BYTES // len(letter.encode()) + 1)
        writer.write(desk.say(text))

        room = asyncio.create_task(writer.room())
        blocked = not await _ends(room, 0.3)
        own_store.start()

        assert blocked
        await asyncio.wait_for(room, 20)
        assert desk.text() == "first" + text


async def test_who_waits_for_room_learns_that_the_task_is_lost(own_store: EmbeddedStore) -> None:
    async with a_desk(own_store.url) as desk:
        writer = await desk.take()
        desk.book.client.hset(keys.task(desk.task_id), "epoch", "9000000000000000")
        desk.book.client.execute_command("CLIENT", "PAUSE", 700, "ALL")
        writer.write(desk.say("first"))
        await asyncio.sleep(0)  # the first batch is frozen
        writer.write(desk.say("x" * (MAX_WAITING_BYTES + 1)))
        room = asyncio.create_task(writer.room())
        assert not await _ends(room, 0.1)

        with pytest.raises(Fenced):
            await asyncio.wait_for(room, 20)


async def _ends(task: "asyncio.Task[None]", seconds: float) -> bool:
    done, _ = await asyncio.wait([task], timeout=seconds)
    return bool(done)


def _refusals(client: redis.Redis) -> int:
    counted: dict[str, dict[str, str]] = client.info("errorstats")  # type: ignore[assignment]
    return sum(
        int(each["count"]) for name, each in counted.items() if name in ("errorstat_NOREPLICAS", "errorstat_OOM")
    )
