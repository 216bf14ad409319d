"""`append`: a batch stands once and whole, or not at all, and what is published is what stands."""

import hashlib
from typing import Any

import pytest
import redis

from shared.contracts import keys
from shared.contracts.entries import LogEntry, from_copy
from shared.contracts.errors import Fenced, Problem, StoreWentBack
from shared.contracts.events import Cancelled, Delta, Event, Failed
from shared.contracts.frames import encode_frame
from shared.runtime.ledger import Ledger
from tests.integration.conftest import Book, Hand, MakeHand, assert_unbroken, completed
from tests.patience import wait_until

NASTY_TEXT = "a b  c\n\n\r\n\x00\u2028 </script> 駅伝 👩‍👩‍👧‍👦 \\ \" ' event: x"


class Heard:
    """A subscriber of a task's channel, and the copies that reach it."""

    def __init__(self, client: redis.Redis, task_id: str) -> None:
        self._client: Any = client
        self._channel = keys.channel(task_id)
        self._subscriber: Any = client.pubsub(ignore_subscribe_messages=True)
        self._subscriber.ssubscribe(self._channel)
        wait_until(lambda: self._client.pubsub_shardnumsub(self._channel)[0][1] == 1)

    def all(self) -> list[LogEntry]:
        """Everything that has been published."""
        assert self._client.spublish(self._channel, "no more") == 1
        payloads: list[bytes] = []
        wait_until(lambda: self._next_into(payloads) == b"no more")
        self._subscriber.close()
        return [from_copy(payload) for payload in payloads[:-1]]

    def _next_into(self, payloads: list[bytes]) -> bytes | None:
        message = self._subscriber.get_sharded_message(timeout=1)
        if message is None:
            return None
        payloads.append(message["data"])
        return payloads[-1]


def test_a_batch_stands_in_its_order(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)

    worker.write(attempt.say("a", "b", "c"))

    assert book.said(task_id) == ["a", "b", "c"]
    assert [entry.id.decode() for entry in book.log(task_id)[1:]] == [f"{attempt.epoch}-{seq}" for seq in range(3)]
    assert_unbroken(book.log(task_id))


def test_frames_are_stored_as_they_were_made(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    event = Delta(task_id=task_id, content=NASTY_TEXT)

    worker.write(worker.take(task_id).freeze(event))

    assert book.log(task_id)[-1].frame == encode_frame(event)


def test_a_batch_sent_again_stands_once(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    batch = worker.take(task_id).say("a", "b")
    worker.write(batch)

    again = worker.append(batch)

    assert again is None
    assert book.said(task_id) == ["a", "b"]


def test_a_batch_sent_again_after_its_successors_stands_once(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    first, second = attempt.say("a", "b"), attempt.say("c")
    worker.write(first)
    worker.write(second)

    again = worker.append(first)

    assert again is None
    assert book.said(task_id) == ["a", "b", "c"]


def test_a_batch_whose_forerunner_is_missing_does_not_stand(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    attempt.say("never sent")

    verdict = worker.append(attempt.say("b"))

    assert isinstance(verdict, StoreWentBack)
    assert book.said(task_id) == []


def test_the_end_sent_again_stands_once(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    end = worker.take(task_id).complete("all")
    worker.write(end)
    before = book.task(task_id), book.log(task_id)

    again = worker.append(end)

    assert again is None
    assert (book.task(task_id), book.log(task_id)) == before


def test_nothing_follows_the_end(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.complete("all"))

    verdicts = [worker.append(attempt.say("more")), worker.append(attempt.complete("more"))]

    assert [type(verdict) for verdict in verdicts] == [Fenced, Fenced]
    assert book.types(task_id) == ["created", "completed"]


def test_the_end_may_come_in_one_batch_with_the_last_words(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)

    worker.write(attempt.freeze(Delta(task_id=task_id, content="all"), completed(task_id, "all")))

    assert book.types(task_id) == ["created", "delta", "completed"]
    assert book.task(task_id).last_id == attempt.follows


def test_who_has_been_overtaken_is_fenced_also_for_what_stands(book: Book, late_worker: Hand, worker: Hand) -> None:
    task_id = book.new_task()
    zombie = late_worker.take(task_id)
    stands, new = zombie.say("a"), zombie.say("b")
    late_worker.write(stands)
    book.let_lease_run_out(task_id)

    worker.take(task_id)

    assert isinstance(late_worker.append(stands), Fenced)
    assert isinstance(late_worker.append(new), Fenced)
    assert book.said(task_id) == ["a"]


def test_who_has_been_overtaken_cannot_end_the_task(book: Book, late_worker: Hand, worker: Hand) -> None:
    task_id = book.new_task()
    zombie = late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    worker.take(task_id)

    assert isinstance(late_worker.append(zombie.complete("mine")), Fenced)
    assert book.task(task_id).status == "running"
    assert book.pending_in_ms(task_id) is not None


def test_a_task_that_is_gone_is_fenced_and_not_made_again(book: Book, worker: Hand, client: redis.Redis) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)

    client.delete(keys.task(task_id), keys.log(task_id))

    assert isinstance(worker.append(attempt.say("a")), Fenced)
    assert client.exists(keys.task(task_id), keys.log(task_id)) == 0


def test_a_writer_notices_a_store_that_went_back(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))
    copy = book.copy_of(task_id)
    worker.write(attempt.say("b"))

    book.go_back_to(copy)

    assert isinstance(worker.append(attempt.say("c")), StoreWentBack)
    assert book.said(task_id) == ["a"]


def test_a_batch_whose_reply_was_lost_stands_again_after_the_store_went_back(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))
    copy = book.copy_of(task_id)
    batch = attempt.say("b", "c")
    worker.write(batch)
    book.go_back_to(copy)

    verdict = worker.append(batch)

    assert verdict is None
    assert book.said(task_id) == ["a", "b", "c"]
    assert_unbroken(book.log(task_id))


def test_a_writer_goes_on_after_the_store_went_back(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))
    copy = book.copy_of(task_id)
    worker.write(attempt.say("b"))
    book.go_back_to(copy)

    again = worker.take(task_id, held_epoch=attempt.epoch)
    worker.write(again.say("b", "c"))

    assert book.said(task_id) == ["a", "b", "c"]
    assert_unbroken(book.log(task_id))


def test_ids_that_were_lost_in_a_roll_back_are_not_used_again(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    copy = book.copy_of(task_id)
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))
    lost = {entry.id for entry in book.log(task_id)[1:]}
    book.go_back_to(copy)

    worker.write(worker.take(task_id).say("a"))

    assert lost.isdisjoint(entry.id for entry in book.log(task_id))


def test_entries_that_were_deleted_are_noticed(book: Book, worker: Hand, client: redis.Redis) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a", "b"))

    client.xdel(keys.log(task_id), attempt.follows)

    assert isinstance(worker.append(attempt.say("c")), StoreWentBack)


def test_a_log_that_was_lost_as_a_whole_is_noticed(book: Book, worker: Hand, client: redis.Redis) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))

    client.delete(keys.log(task_id))

    assert isinstance(worker.append(attempt.say("b")), StoreWentBack)
    assert book.log(task_id) == []


def test_a_batch_is_refused_whole(book: Book, worker: Hand, client: redis.Redis) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))
    before = book.task(task_id), book.log(task_id)
    client.hset(keys.task(task_id), "epoch", "9000000000000000")

    worker.append(attempt.freeze(Delta(task_id=task_id, content="b"), completed(task_id, "ab")))

    client.hset(keys.task(task_id), "epoch", attempt.epoch)
    assert (book.task(task_id), book.log(task_id)) == before


def test_one_tasks_refusal_is_not_anothers(book: Book, worker: Hand, ledger: Ledger) -> None:
    attempts = [worker.take(book.new_task()) for _ in range(3)]
    ledger.cancel(attempts[1].task_id, by="user")

    verdicts = worker.run(worker.ledger.append([attempt.say("a") for attempt in attempts]))

    assert [type(verdict) for verdict in verdicts] == [type(None), Fenced, type(None)]
    assert [book.said(attempt.task_id) for attempt in attempts] == [["a"], [], ["a"]]


def test_many_batches_share_a_round_trip_and_all_stand(book: Book, worker: Hand) -> None:
    attempts = [worker.take(book.new_task()) for _ in range(200)]

    verdicts = worker.run(worker.ledger.append([attempt.say(attempt.task_id) for attempt in attempts]))

    assert verdicts == [None] * 200
    assert all(book.said(attempt.task_id) == [attempt.task_id] for attempt in attempts)


def test_a_large_batch_stands_whole(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    words = [f"{number} " for number in range(20_000)]

    worker.write(worker.take(task_id).say(*words))

    assert book.said(task_id) == words


def test_a_large_text_stands_whole(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    text = NASTY_TEXT * 50_000

    worker.write(worker.take(task_id).say(text))

    [said] = book.said(task_id)
    assert hashlib.sha256(said.encode()).digest() == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize("kind", ["completed", "failed", "cancelled"])
def test_a_terminal_entry_does_all_that_goes_with_an_end(
    book: Book, make_hand: MakeHand, client: redis.Redis, kind: str
) -> None:
    task_id = book.new_task()
    hand = make_hand(log_ttl_seconds=100, session_ttl_seconds=1000)
    attempt = hand.take(task_id)

    hand.write(attempt.freeze(_terminal(task_id, kind)))

    task, last = book.task(task_id), book.log(task_id)[-1]
    assert (task.status, task.end) == (kind, _terminal(task_id, kind))
    assert (task.last_id.encode(), task.end_frame) == (last.id, last.frame)
    assert task.lease_ms == 0
    assert 90 < int(client.ttl(keys.log(task_id))) <= 100
    assert 990 < int(client.ttl(keys.task(task_id))) <= 1000
    assert book.pending_in_ms(task_id) is None
    assert book.ended_ms(task_id) == task.ended_ms


def test_nothing_expires_before_the_end(book: Book, worker: Hand, client: redis.Redis) -> None:
    task_id = book.new_task()

    worker.write(worker.take(task_id).say("a"))

    assert [client.ttl(key) for key in (keys.task(task_id), keys.log(task_id))] == [-1, -1]
    assert book.pending_in_ms(task_id) is not None


def test_a_store_full_of_other_tasks_keeps_their_logs_apart(book: Book, worker: Hand) -> None:
    bucket_mates = [f"task_07{number:032x}" for number in range(3)]
    attempts = [worker.take(book.new_task(task_id=task_id)) for task_id in bucket_mates]

    for attempt in attempts:
        worker.write(attempt.say(attempt.task_id))
    worker.write(attempts[0].complete("all"))

    assert [book.said(task_id) for task_id in bucket_mates] == [[task_id] for task_id in bucket_mates]
    assert [book.pending_in_ms(task_id) is None for task_id in bucket_mates] == [True, False, False]


def test_what_is_published_is_what_stands(book: Book, client: redis.Redis, worker: Hand, other_worker: Hand) -> None:
    task_id = book.new_task()
    heard = Heard(client, task_id)
    first = worker.take(task_id)
    worker.write(first.say("a", NASTY_TEXT))
    worker.give_back(first)

    second = other_worker.take(task_id)
    other_worker.write(second.say("b", "", " "))
    other_worker.write(second.complete(NASTY_TEXT))

    assert heard.all() == book.log(task_id)[1:]


def test_a_cancelled_entry_is_published_as_it_stands(
    book: Book, client: redis.Redis, ledger: Ledger, worker: Hand
) -> None:
    task_id = book.new_task()
    worker.write(worker.take(task_id).say(NASTY_TEXT))
    heard = Heard(client, task_id)

    ledger.cancel(task_id, by="user")

    assert heard.all() == book.log(task_id)[-1:]


def test_a_batch_sent_again_is_published_once(book: Book, client: redis.Redis, worker: Hand) -> None:
    task_id = book.new_task()
    heard = Heard(client, task_id)
    batch = worker.take(task_id).say("a", "b")

    for _ in range(3):
        worker.write(batch)

    assert heard.all() == book.log(task_id)[1:]


def test_what_a_zombie_is_refused_is_not_published(
    book: Book, client: redis.Redis, late_worker: Hand, worker: Hand
) -> None:
    task_id = book.new_task()
    zombie = late_worker.take(task_id)
    book.let_lease_run_out(task_id)
    attempt = worker.take(task_id)
    heard = Heard(client, task_id)

    refused = [late_worker.append(batch) for batch in (zombie.say("b"), zombie.complete("b"))]
    worker.write(attempt.say("a"))

    assert [type(verdict) for verdict in refused] == [Fenced, Fenced]
    assert heard.all() == book.log(task_id)[-1:]


def test_what_does_not_follow_is_not_published(book: Book, client: redis.Redis, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    heard = Heard(client, task_id)
    attempt.say("never sent")

    verdict = worker.append(attempt.say("b"))

    assert isinstance(verdict, StoreWentBack)
    assert heard.all() == []


def _terminal(task_id: str, kind: str) -> Event:
    match kind:
        case "completed":
            return completed(task_id, "all")
        case "failed":
            problem = Problem(type="urn:ekiden:problem:x", title="x", code="x")
            return Failed(task_id=task_id, problem=problem, partial="so far")
        case _:
            return Cancelled(task_id=task_id, by="worker", partial="so far")
