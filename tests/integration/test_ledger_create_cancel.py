"""`create` and `cancel`: how a task comes into being, and how it is ended from outside."""

import json
import threading
from collections.abc import Callable

import pytest
import redis

from shared.contracts import keys
from shared.contracts.errors import Fenced, NotFound
from shared.contracts.events import Cancelled, Created, Delta, Reasoning, Reset
from shared.contracts.frames import decode_frame, encode_frame
from shared.contracts.ids import bucket_of, new_task_id
from shared.contracts.transcript import Transcript
from shared.runtime.ledger import Ledger
from shared.runtime.ledger_async import AsyncLedger
from shared.runtime.pipelined import PipelinedClient
from shared.runtime.settings import LedgerSettings
from tests.integration.conftest import Attempt, Book, Hand, MakeLedger, assert_unbroken, until

NASTY_TEXTS = {
    "quotes": 'she said "no", \'never\', \\ and \\" and \\n',
    "line_breaks": "a\nb\r\nc\rd\n\n\n",
    "separators": "a\u2028b\u2029c\u0085d\ufeffe",
    "emoji": "👩‍👩‍👧‍👦 駅伝 🏃‍♀️ e\u0301",
    "nul": "a\x00b\x00",
    "controls": "".join(chr(code) for code in [*range(32), 127]),
    "script": "</script><!-- <script>alert(1)</script>",
    "percent": "%s %d %% %1 %{}",
    "mark": "\x00partial\x00",
    "frame": 'x\n\nevent: completed\ndata: {"type":"completed"}\n\n',
    "numbers": "1e309",
    "nothing": "",
}


def partial_of(book: Book, task_id: str) -> str:
    """The text that a cancelled task kept."""
    end = book.task(task_id).end
    assert isinstance(end, Cancelled)
    return end.partial


def test_a_created_task_waits_with_all_that_is_known_of_it(ledger: Ledger, book: Book) -> None:
    task_id = new_task_id()
    created = Created(task_id=task_id, session_id="sess_1", model="demo")

    ledger.create(created, owner="anna", queue="llm", request_id="req_1")

    task = ledger.task(task_id)
    assert (task.status, task.owner, task.session_id, task.model) == ("queued", "anna", "sess_1", "demo")
    assert (task.queue, task.request_id) == ("llm", "req_1")
    assert (task.attempt, task.crashes, task.job, task.lease_ms) == (0, 0, 1, 0)
    assert abs(task.created_ms - book.now_ms()) < 5000
    assert not task.ended
    assert task.end is None


def test_a_log_begins_with_the_created_event(ledger: Ledger, book: Book) -> None:
    task_id = new_task_id()
    created = Created(task_id=task_id, session_id="sess_1", model="demo")

    ledger.create(created, owner="anna", queue="llm", request_id="req_1")

    [entry] = book.log(task_id)
    assert entry.id.decode() == f"{book.task(task_id).epoch}-0"
    assert entry.previous == b"0-0"
    assert entry.type == b"created"
    assert decode_frame(entry.frame) == created


def test_a_created_task_is_looked_at_after_the_first_look(make_ledger: MakeLedger, book: Book) -> None:
    ledger = make_ledger(first_look_seconds=7)
    task_id = new_task_id()

    ledger.create(Created(task_id=task_id, session_id="s", model="m"), owner="o", queue="llm", request_id="")

    assert 6000 < (book.pending_in_ms(task_id) or 0) <= 7000


def test_nothing_of_a_pending_task_expires(book: Book, client: redis.Redis) -> None:
    task_id = book.new_task()

    ttls = [client.ttl(key) for key in (keys.task(task_id), keys.log(task_id), keys.pending(bucket_of(task_id)))]

    assert ttls == [-1, -1, -1]


def test_a_task_is_created_once(ledger: Ledger, book: Book) -> None:
    task_id = book.new_task(owner="anna")
    before = book.task(task_id), book.log(task_id)

    ledger.create(Created(task_id=task_id, session_id="s2", model="m2"), owner="otto", queue="q2", request_id="r2")

    assert (book.task(task_id), book.log(task_id)) == before


def test_a_task_that_is_created_again_while_it_runs_goes_on(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))

    book.new_task(task_id=task_id)

    worker.write(attempt.say("b"))
    assert book.task(task_id).status == "running"
    assert book.said(task_id) == ["a", "b"]


def test_a_task_that_is_created_again_after_its_end_stays_ended(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    worker.write(worker.take(task_id).complete("all"))

    book.new_task(task_id=task_id)

    assert book.task(task_id).status == "completed"
    assert book.pending_in_ms(task_id) is None


def test_creators_that_race_make_one_task(book: Book) -> None:
    task_id = new_task_id()
    creators = [threading.Thread(target=book.new_task, kwargs={"task_id": task_id}) for _ in range(16)]

    for creator in creators:
        creator.start()
    for creator in creators:
        creator.join()

    assert book.types(task_id) == ["created"]


def test_a_log_that_outlived_its_task_is_gone_on_with_and_not_broken(book: Book, client: redis.Redis) -> None:
    task_id = new_task_id()
    far_ahead = "9000000000000000-3"
    client.xadd(keys.log(task_id), {"p": "0-0", "t": "created", "f": b"x"}, id=far_ahead)

    book.new_task(task_id=task_id)

    assert book.log(task_id)[-1].id == b"9000000000000001-0"


def test_an_unknown_task_is_not_found(ledger: Ledger) -> None:
    task_id = new_task_id()

    with pytest.raises(NotFound) as caught:
        ledger.task(task_id)

    assert caught.value.code == "task_not_found"


def test_a_queued_task_can_be_cancelled(ledger: Ledger, book: Book) -> None:
    task_id = book.new_task()

    ledger.cancel(task_id, by="user")

    assert book.task(task_id).status == "cancelled"
    assert book.task(task_id).end == Cancelled(task_id=task_id, by="user", partial="")
    assert book.types(task_id) == ["created", "cancelled"]
    assert_unbroken(book.log(task_id))


def test_a_cancelled_task_is_never_claimed(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()

    ledger.cancel(task_id, by="user")

    assert worker.claim(task_id) is None


def test_a_running_task_is_cancelled_with_its_text(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("Eki", "den"))
    worker.write(attempt.freeze(Reasoning(task_id=task_id, content="hm")))

    ledger.cancel(task_id, by="user")

    assert partial_of(book, task_id) == "Ekiden"
    assert_unbroken(book.log(task_id))


def test_a_cancel_does_all_that_goes_with_an_end(
    make_ledger: MakeLedger, book: Book, worker: Hand, client: redis.Redis
) -> None:
    task_id = book.new_task()
    worker.take(task_id)
    ledger = make_ledger(log_ttl_seconds=100, session_ttl_seconds=1000)

    ledger.cancel(task_id, by="user")

    task, last = book.task(task_id), book.log(task_id)[-1]
    assert (task.last_id.encode(), task.end_frame) == (last.id, last.frame)
    assert task.last_id == f"{task.epoch}-0"
    assert task.lease_ms == 0
    assert 90 < int(client.ttl(keys.log(task_id))) <= 100
    assert 990 < int(client.ttl(keys.task(task_id))) <= 1000
    assert book.pending_in_ms(task_id) is None
    assert book.ended_ms(task_id) == task.ended_ms


@pytest.mark.parametrize("text", NASTY_TEXTS.values(), ids=NASTY_TEXTS.keys())
def test_a_cancel_keeps_any_text_to_the_letter(ledger: Ledger, book: Book, worker: Hand, text: str) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say(text, "|", text))

    ledger.cancel(task_id, by="user")

    assert partial_of(book, task_id) == f"{text}|{text}"


@pytest.mark.parametrize("text", NASTY_TEXTS.values(), ids=NASTY_TEXTS.keys())
def test_text_that_only_the_script_has_seen_is_kept_to_the_letter(
    client: redis.Redis, book: Book, worker: Hand, text: str
) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("<", text))
    stale = _ReadsTheLogTooEarly(client, LedgerSettings())
    stale.meanwhile = lambda: worker.write(attempt.say(text, ">"))

    stale.cancel(task_id, by="user")

    assert partial_of(book, task_id) == f"<{text}{text}>"


def test_a_cancelled_frame_is_one_line_of_json(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    worker.write(worker.take(task_id).say(*NASTY_TEXTS.values()))

    ledger.cancel(task_id, by="user")

    name, data, *rest = book.log(task_id)[-1].frame.split(b"\n")
    assert (name, rest) == (b"event: cancelled", [b"", b""])
    assert b"\r" not in data
    assert json.loads(data.removeprefix(b"data: "))["partial"] == "".join(NASTY_TEXTS.values())


def test_after_a_reset_only_the_text_that_stands_is_kept(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("an earlier try"))
    worker.write(attempt.freeze(_reset(task_id, "sta")))
    worker.write(attempt.say("nds"))

    ledger.cancel(task_id, by="user")

    assert partial_of(book, task_id) == "stands"


def test_a_reset_that_comes_while_the_log_is_read_counts(client: redis.Redis, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("an earlier try"))
    stale = _ReadsTheLogTooEarly(client, LedgerSettings())
    stale.meanwhile = lambda: worker.write(
        attempt.freeze(_reset(task_id, "sta"), Delta(task_id=task_id, content="nds"))
    )

    stale.cancel(task_id, by="user")

    assert partial_of(book, task_id) == "stands"


def test_a_task_that_ends_while_its_log_is_read_keeps_its_end(client: redis.Redis, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    stale = _ReadsTheLogTooEarly(client, LedgerSettings())
    stale.meanwhile = lambda: worker.write(attempt.complete("all"))

    stale.cancel(task_id, by="user")

    assert book.types(task_id) == ["created", "completed"]


def test_a_long_log_is_folded_to_its_last_page(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    words = [f"{number} " for number in range(2500)]
    for start in range(0, len(words), 500):
        worker.write(attempt.say(*words[start : start + 500]))

    ledger.cancel(task_id, by="user")

    assert partial_of(book, task_id) == "".join(words)


async def test_a_cancel_amid_a_fast_writer_keeps_exactly_what_the_log_holds(
    store_url: str, ledger: Ledger, book: Book
) -> None:
    task_id = book.new_task()
    client = PipelinedClient(store_url, timeout_seconds=5)
    fast = AsyncLedger(client, LedgerSettings(), worker="fast")
    verdicts: list[Exception | None] = []
    cancel = threading.Thread(target=ledger.cancel, args=(task_id,), kwargs={"by": "user"})
    claim = await fast.claim(task_id)
    assert claim is not None
    attempt = Attempt(claim)

    for number in range(5000):
        if number == 200:
            cancel.start()
        verdicts += await fast.append([attempt.say(f"{number} ", "«\u2028»")])
        if verdicts[-1] is not None:
            break
    await until(lambda: not cancel.is_alive())
    await client.aclose()

    said = book.said(task_id)
    assert isinstance(verdicts[-1], Fenced)
    assert said == [text for number in range(len(verdicts) - 1) for text in (f"{number} ", "«\u2028»")]
    assert partial_of(book, task_id) == "".join(said)
    assert_unbroken(book.log(task_id))


def test_a_task_can_be_cancelled_twice_and_ends_once(ledger: Ledger, book: Book) -> None:
    task_id = book.new_task()
    ledger.cancel(task_id, by="user")
    before = book.task(task_id), book.log(task_id)

    ledger.cancel(task_id, by="somebody")

    assert (book.task(task_id), book.log(task_id)) == before


def test_cancels_that_race_end_the_task_once(ledger: Ledger, book: Book) -> None:
    task_id = book.new_task()
    cancels = [threading.Thread(target=ledger.cancel, args=(task_id,), kwargs={"by": "user"}) for _ in range(16)]

    for cancel in cancels:
        cancel.start()
    for cancel in cancels:
        cancel.join()

    assert book.types(task_id) == ["created", "cancelled"]


def test_a_cancel_after_the_end_changes_nothing(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    worker.write(worker.take(task_id).complete("all"))
    before = book.task(task_id), book.log(task_id)

    ledger.cancel(task_id, by="user")

    assert (book.task(task_id), book.log(task_id)) == before


def test_a_task_that_is_gone_cannot_be_cancelled(ledger: Ledger, book: Book) -> None:
    task_id = new_task_id()

    with pytest.raises(NotFound):
        ledger.cancel(task_id, by="user")

    assert book.log(task_id) == []


def test_a_cancelled_tasks_worker_can_write_no_more(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))

    ledger.cancel(task_id, by="user")

    assert isinstance(worker.append(attempt.say("b")), Fenced)
    assert isinstance(worker.append(attempt.complete("ab")), Fenced)
    assert book.types(task_id) == ["created", "delta", "cancelled"]


def test_a_cancel_is_heard_by_workers(ledger: Ledger, book: Book, client: redis.Redis) -> None:
    task_id = book.new_task()
    with client.pubsub() as subscriber:
        subscriber.subscribe(keys.CANCEL_CHANNEL)
        subscriber.get_message(timeout=5)

        ledger.cancel(task_id, by="user")

        message = subscriber.get_message(timeout=5)
    assert message is not None
    assert message["data"] == task_id.encode()


def test_a_cancel_of_an_ended_task_is_not_told_to_workers(ledger: Ledger, book: Book, client: redis.Redis) -> None:
    ended, running = book.new_task(), book.new_task()
    ledger.cancel(ended, by="user")
    with client.pubsub() as subscriber:
        subscriber.subscribe(keys.CANCEL_CHANNEL)
        subscriber.get_message(timeout=5)

        ledger.cancel(ended, by="user")
        ledger.cancel(running, by="user")

        message = subscriber.get_message(timeout=5)
    assert message is not None
    assert message["data"] == running.encode()


def test_a_cancelled_entry_comes_after_entries_of_any_epoch(ledger: Ledger, book: Book, client: redis.Redis) -> None:
    task_id = book.new_task()
    [created] = book.log(task_id)
    frame = encode_frame(Delta(task_id=task_id, content="far ahead"))
    client.xadd(keys.log(task_id), {"p": created.id, "t": "delta", "f": frame}, id="9000000000000000-7")

    ledger.cancel(task_id, by="user")

    assert book.log(task_id)[-1].id == b"9000000000000001-0"
    assert partial_of(book, task_id) == "far ahead"


class _ReadsTheLogTooEarly(Ledger):
    """A ledger whose cancel always comes too late: `meanwhile` happens between reading the log and the script."""

    meanwhile: Callable[[], None]

    def transcript(self, task_id: str) -> Transcript:
        transcript = super().transcript(task_id)
        self.meanwhile()
        return transcript


def _reset(task_id: str, content: str) -> Reset:
    return Reset(task_id=task_id, content=content, reasoning="", reason="worker_lost", attempt=2)
