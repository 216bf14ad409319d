"""`claim`: who may work on a task, and how those before are shut out."""

import threading

import redis

from shared.contracts import keys
from shared.contracts.errors import Fenced
from shared.contracts.ids import new_task_id
from shared.runtime.ledger import Ledger
from tests.integration.conftest import Attempt, Book, Hand, MakeHand, assert_unbroken


def test_a_task_that_does_not_exist_is_not_claimed(worker: Hand, client: redis.Redis) -> None:
    task_id = new_task_id()

    claim = worker.claim(task_id)

    assert claim is None
    assert client.keys("*") == []


def test_a_waiting_task_is_claimed_with_a_lease(book: Book, worker: Hand) -> None:
    task_id = book.new_task()

    worker.claim(task_id)

    task = book.task(task_id)
    assert (task.status, task.attempt, task.crashes) == ("running", 1, 0)
    assert 9000 < task.lease_ms - book.now_ms() <= 10_000
    assert 9000 < (book.pending_in_ms(task_id) or 0) <= 10_000


def test_a_claim_tells_all_that_its_holder_needs(book: Book, worker: Hand) -> None:
    task_id = book.new_task(model="demo/echo")

    claim = worker.claim(task_id)

    assert claim is not None
    assert claim.task == book.task(task_id)
    assert claim.epoch == book.task(task_id).epoch
    assert claim.last_id.encode() == book.log(task_id)[-1].id
    assert 0 <= claim.waited_ms < 5000
    assert not claim.exhausted


def test_a_claim_is_newer_than_all_that_was_written(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    created_epoch = int(book.task(task_id).epoch)

    claim = worker.claim(task_id)

    assert claim is not None
    assert int(claim.epoch) > created_epoch


def test_a_running_task_is_not_claimed_by_another(book: Book, worker: Hand, other_worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)

    refused = other_worker.claim(task_id)

    assert refused is None
    assert book.task(task_id).attempt == 1
    worker.write(attempt.say("still mine"))


def test_a_second_job_for_a_task_does_not_disturb_the_worker_that_runs_it(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)

    refused = worker.claim(task_id)

    assert refused is None
    worker.write(attempt.say("still mine"))


def test_an_ended_task_is_not_claimed(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    worker.write(worker.take(task_id).complete("all"))
    before = book.task(task_id)

    refused = worker.claim(task_id)

    assert refused is None
    assert book.task(task_id) == before


def test_workers_that_race_get_one_claim(book: Book, make_hand: MakeHand) -> None:
    task_id = book.new_task()
    hands = [make_hand(f"worker-{number}") for number in range(8)]
    claims: list[object] = []
    racers = [threading.Thread(target=lambda hand=hand: claims.append(hand.claim(task_id))) for hand in hands]

    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert sorted(claim is None for claim in claims) == [False] + [True] * 7
    assert book.task(task_id).attempt == 1


def test_a_lease_that_ran_out_is_taken_over_and_counts_as_a_crash(book: Book, late_worker: Hand, worker: Hand) -> None:
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    claim = worker.claim(task_id)

    assert claim is not None
    assert (claim.task.attempt, claim.task.crashes) == (2, 1)


def test_who_was_taken_over_can_write_no_more(book: Book, late_worker: Hand, worker: Hand) -> None:
    task_id = book.new_task()
    zombie = late_worker.take(task_id)
    late_worker.write(zombie.say("a"))
    book.let_lease_run_out(task_id)

    worker.take(task_id)

    assert isinstance(late_worker.append(zombie.say("b")), Fenced)
    assert book.said(task_id) == ["a"]


def test_a_lease_that_ran_out_unnoticed_still_lets_its_holder_write(book: Book, late_worker: Hand) -> None:
    task_id = book.new_task()
    attempt = late_worker.take(task_id)

    book.let_lease_run_out(task_id)

    late_worker.write(attempt.say("a"))
    assert book.said(task_id) == ["a"]


def test_a_task_handed_over_is_claimed_at_once_and_no_crash_is_counted(
    book: Book, worker: Hand, other_worker: Hand
) -> None:
    task_id = book.new_task()
    worker.give_back(worker.take(task_id))

    claim = other_worker.claim(task_id)

    assert claim is not None
    assert (claim.task.attempt, claim.task.crashes) == (2, 0)


def test_hand_overs_never_exhaust_a_task(book: Book, make_hand: MakeHand) -> None:
    task_id = book.new_task()
    hand = make_hand(max_crashes=1)
    for _ in range(5):
        hand.give_back(hand.take(task_id))

    claim = hand.claim(task_id)

    assert claim is not None
    assert not claim.exhausted
    assert (claim.task.attempt, claim.task.crashes) == (6, 0)


def test_a_task_that_has_killed_its_last_worker_is_claimed_only_to_be_ended(book: Book, make_hand: MakeHand) -> None:
    task_id = book.new_task()
    hand = make_hand(lease_seconds=0.005, max_crashes=3)
    exhausted = []

    for _ in range(4):
        claim = hand.claim(task_id)
        assert claim is not None
        exhausted.append(claim.exhausted)
        book.let_lease_run_out(task_id)

    assert exhausted == [False, False, False, True]


def test_an_exhausted_task_can_be_ended_by_its_claimer(book: Book, make_hand: MakeHand) -> None:
    task_id = book.new_task()
    hand = make_hand(lease_seconds=0.005, max_crashes=1)
    hand.take(task_id)
    book.let_lease_run_out(task_id)

    claim = hand.claim(task_id)

    assert claim is not None
    assert claim.exhausted
    hand.write(Attempt(claim).complete("as far as it came"))
    assert book.task(task_id).status == "completed"


def test_an_exhausted_task_whose_claimer_dies_too_stays_exhausted(book: Book, make_hand: MakeHand) -> None:
    task_id = book.new_task()
    hand = make_hand(lease_seconds=0.005, max_crashes=1)
    for _ in range(2):
        hand.take(task_id)
        book.let_lease_run_out(task_id)

    claim = hand.claim(task_id)

    assert claim is not None
    assert claim.exhausted


def test_epochs_grow_with_every_claim(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    epochs = [int(book.task(task_id).epoch)]

    for _ in range(50):
        attempt = worker.take(task_id)
        epochs.append(int(attempt.epoch))
        worker.give_back(attempt)

    assert epochs == sorted(set(epochs))


def test_an_epoch_is_newer_than_the_logs_last_entry_even_if_that_is_from_the_future(
    book: Book, worker: Hand, client: redis.Redis
) -> None:
    task_id = book.new_task()
    [created] = book.log(task_id)
    client.xadd(keys.log(task_id), {"p": created.id, "t": "delta", "f": b"f"}, id="9000000000000000-5")

    claim = worker.claim(task_id)

    assert claim is not None
    assert (claim.epoch, claim.last_id) == ("9000000000000001", "9000000000000000-5")


def test_an_epoch_is_newer_than_that_of_a_holder_who_wrote_nothing(
    book: Book, worker: Hand, client: redis.Redis
) -> None:
    task_id = book.new_task()
    client.hset(keys.task(task_id), "epoch", "9000000000000000")

    claim = worker.claim(task_id)

    assert claim is not None
    assert claim.epoch == "9000000000000001"


def test_the_last_possible_epochs_keep_all_their_digits(book: Book, worker: Hand, client: redis.Redis) -> None:
    task_id = book.new_task()
    client.hset(keys.task(task_id), "epoch", str(2**53 - 3))

    epochs = [worker.take(task_id).epoch]
    epochs.append(worker.take(task_id, held_epoch=epochs[0]).epoch)

    assert epochs == [str(2**53 - 2), str(2**53 - 1)]


def test_who_holds_a_task_may_claim_it_again_at_once(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.say("a"))

    claim = worker.claim(task_id, held_epoch=attempt.epoch)

    assert claim is not None
    assert int(claim.epoch) > int(attempt.epoch)
    assert (claim.task.attempt, claim.task.crashes) == (2, 0)
    assert claim.last_id == attempt.follows


def test_who_held_a_task_may_not_claim_it_from_the_next(book: Book, worker: Hand, other_worker: Hand) -> None:
    task_id = book.new_task()
    before = worker.take(task_id)
    worker.give_back(before)
    attempt = other_worker.take(task_id)

    refused = worker.claim(task_id, held_epoch=before.epoch)

    assert refused is None
    other_worker.write(attempt.say("mine"))


def test_a_holder_who_comes_back_after_its_lease_did_not_crash(book: Book, late_worker: Hand) -> None:
    task_id = book.new_task()
    attempt = late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    claim = late_worker.claim(task_id, held_epoch=attempt.epoch)

    assert claim is not None
    assert claim.task.crashes == 0


def test_a_cancelled_task_is_not_claimed_by_its_holder(ledger: Ledger, book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)

    ledger.cancel(task_id, by="user")

    assert worker.claim(task_id, held_epoch=attempt.epoch) is None


def test_the_log_goes_on_unbroken_from_attempt_to_attempt(
    book: Book, late_worker: Hand, worker: Hand, other_worker: Hand
) -> None:
    task_id = book.new_task()
    crashed = late_worker.take(task_id)
    late_worker.write(crashed.say("a", "b"))
    book.let_lease_run_out(task_id)
    handed_over = worker.take(task_id)
    worker.write(handed_over.say("c"))
    worker.give_back(handed_over)

    last = other_worker.take(task_id)
    other_worker.write(last.say("d"))
    other_worker.write(last.complete("d"))

    assert book.said(task_id) == ["a", "b", "c", "d"]
    assert_unbroken(book.log(task_id))


def test_a_claim_whose_reply_was_lost_gets_it_when_it_is_made_again(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    first = worker.run(worker.ledger.claim(task_id, name="this claim"))

    again = worker.run(worker.ledger.claim(task_id, name="this claim"))
    other = worker.run(worker.ledger.claim(task_id, name="another claim"))

    assert (again.epoch, again.last_id) == (first.epoch, first.last_id)
    assert again.task.attempt == 1
    assert other is None
