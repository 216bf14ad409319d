"""`renew` and `sweep`: leases are kept, and what nobody works on gets a job."""

import threading

import redis

from shared.contracts import keys
from shared.contracts.ids import bucket_of
from shared.contracts.jobs import GenerateAnswer
from shared.runtime.ledger import DueJob, Ledger
from tests.integration.conftest import Book, Hand, MakeHand, MakeLedger


def job_of(task_id: str, number: int = 1) -> GenerateAnswer:
    """The job that a sweep is to make sure of."""
    return GenerateAnswer(task_id=task_id, number=number, queue="llm", request_id="req_1")


def make_due(book: Book, *task_ids: str) -> None:
    """The sweep is to look at these now."""
    for task_id in task_ids:
        book.client.zadd(keys.pending(bucket_of(task_id)), {task_id: book.now_ms() - 1}, xx=True)


def test_a_renewal_extends_the_lease(book: Book, late_worker: Hand, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = late_worker.take(task_id)

    fenced = worker.renew(attempt)

    assert fenced == set()
    assert 9000 < book.task(task_id).lease_ms - book.now_ms() <= 10_000
    assert 9000 < (book.pending_in_ms(task_id) or 0) <= 10_000


def test_a_lease_that_ran_out_unnoticed_can_be_renewed(book: Book, late_worker: Hand, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    fenced = worker.renew(attempt)

    assert fenced == set()
    assert worker.claim(task_id) is None
    assert book.task(task_id).crashes == 0


def test_a_renewal_tells_which_tasks_are_fenced(book: Book, ledger: Ledger, worker: Hand, client: redis.Redis) -> None:
    held, cancelled, ended, gone, overtaken = [worker.take(book.new_task()) for _ in range(5)]
    ledger.cancel(cancelled.task_id, by="user")
    worker.write(ended.complete("all"))
    client.delete(keys.task(gone.task_id))
    worker.take(overtaken.task_id, held_epoch=overtaken.epoch)

    fenced = worker.renew(held, cancelled, ended, gone, overtaken)

    assert fenced == {cancelled.task_id, ended.task_id, gone.task_id, overtaken.task_id}


def test_a_renewal_of_fenced_tasks_changes_nothing(book: Book, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.write(attempt.complete("all"))
    before = book.task(task_id)

    worker.renew(attempt)

    assert book.task(task_id) == before
    assert book.pending_in_ms(task_id) is None


def test_leases_in_many_buckets_are_renewed_at_once(book: Book, late_worker: Hand, worker: Hand) -> None:
    attempts = [late_worker.take(book.new_task()) for _ in range(150)]

    fenced = worker.renew(*attempts)

    assert fenced == set()
    assert all(book.task(attempt.task_id).lease_ms > book.now_ms() for attempt in attempts)


def test_who_was_swept_away_is_told_by_its_next_renewal(book: Book, ledger: Ledger, late_worker: Hand) -> None:
    task_id = book.new_task()
    attempt = late_worker.take(task_id)
    book.let_lease_run_out(task_id)
    ledger.sweep(take_over=True)

    fenced = late_worker.renew(attempt)

    assert fenced == {task_id}


def test_a_task_given_back_is_due_at_once_and_no_crash_is_counted(book: Book, ledger: Ledger, worker: Hand) -> None:
    task_id = book.new_task()
    worker.give_back(worker.take(task_id))
    book.let_it_be_due(task_id)

    due = ledger.sweep(take_over=True)

    assert due == [DueJob(job=job_of(task_id, 2), takeover=True)]
    assert (book.task(task_id).status, book.task(task_id).crashes) == ("queued", 0)


def test_a_task_given_back_twice_is_handed_out_once(book: Book, ledger: Ledger, worker: Hand) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.give_back(attempt)
    worker.give_back(attempt)
    book.let_it_be_due(task_id)

    due = [ledger.sweep(take_over=True), ledger.sweep(take_over=True)]

    assert due == [[DueJob(job=job_of(task_id, 2), takeover=True)], []]


def test_a_renewal_that_was_under_way_while_a_task_was_given_back_does_not_bring_its_lease_back(
    book: Book, ledger: Ledger, worker: Hand
) -> None:
    task_id = book.new_task()
    attempt = worker.take(task_id)
    worker.give_back(attempt)

    fenced = worker.renew(attempt)

    assert fenced == {task_id}
    assert book.task(task_id).lease_ms == 0
    [due] = ledger.sweep(take_over=True)
    assert due.takeover
    assert book.task(task_id).crashes == 0


def test_who_gives_back_what_another_has_takes_nothing_from_it(book: Book, worker: Hand, other_worker: Hand) -> None:
    task_id = book.new_task()
    before = worker.take(task_id)
    worker.give_back(before)
    other_worker.take(task_id)

    fenced = worker.give_back(before)

    assert fenced == {task_id}
    assert book.task(task_id).lease_ms > book.now_ms()


def test_a_task_that_is_not_due_is_left_alone(book: Book, ledger: Ledger, worker: Hand) -> None:
    book.new_task()
    worker.take(book.new_task())

    due = ledger.sweep(take_over=True)

    assert due == []


def test_a_waiting_tasks_job_is_made_sure_of_under_its_own_name(book: Book, ledger: Ledger) -> None:
    task_id = book.new_task()
    make_due(book, task_id)

    due = ledger.sweep(take_over=True)

    assert due == [DueJob(job=job_of(task_id, 1), takeover=False)]


def test_looks_at_a_waiting_task_grow_rare(book: Book, ledger: Ledger) -> None:
    task_id = book.new_task()
    waits = []

    for _ in range(7):
        make_due(book, task_id)
        ledger.sweep(take_over=True)
        waits.append(round((book.pending_in_ms(task_id) or 0) / 1000))

    assert waits == [4, 8, 16, 32, 60, 60, 60]


def test_a_waiting_task_is_looked_at_at_its_time(book: Book, make_ledger: MakeLedger) -> None:
    ledger = make_ledger(first_look_seconds=0.02)
    book = Book(book.client, ledger)
    task_id = book.new_task()

    book.let_it_be_due(task_id)

    assert ledger.sweep(take_over=True) == [DueJob(job=job_of(task_id, 1), takeover=False)]
    assert ledger.sweep(take_over=True) == []
    book.let_it_be_due(task_id)
    assert ledger.sweep(take_over=True) == [DueJob(job=job_of(task_id, 1), takeover=False)]


def test_a_lease_that_ran_out_brings_a_new_job_at_the_head(book: Book, ledger: Ledger, late_worker: Hand) -> None:
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    due = ledger.sweep(take_over=True)

    task = book.task(task_id)
    assert due == [DueJob(job=job_of(task_id, 2), takeover=True)]
    assert (task.status, task.crashes, task.lease_ms, task.job) == ("queued", 1, 0, 2)


def test_a_task_taken_over_is_looked_at_anew_from_the_first_look(book: Book, ledger: Ledger, late_worker: Hand) -> None:
    task_id = book.new_task()
    for _ in range(3):
        make_due(book, task_id)
        ledger.sweep(take_over=True)
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)

    ledger.sweep(take_over=True)

    assert round((book.pending_in_ms(task_id) or 0) / 1000) == 2
    make_due(book, task_id)
    assert ledger.sweep(take_over=True) == [DueJob(job=job_of(task_id, 2), takeover=False)]


def test_a_crash_is_counted_once_when_the_sweep_comes_before_the_claim(
    book: Book, ledger: Ledger, late_worker: Hand, worker: Hand
) -> None:
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)
    ledger.sweep(take_over=True)

    claim = worker.claim(task_id)

    assert claim is not None
    assert (claim.task.attempt, claim.task.crashes) == (2, 1)


def test_a_crash_is_counted_once_when_the_claim_comes_before_the_sweep(
    book: Book, ledger: Ledger, late_worker: Hand, worker: Hand
) -> None:
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)
    worker.claim(task_id)

    due = ledger.sweep(take_over=True)

    assert due == []
    assert book.task(task_id).crashes == 1


def test_a_crash_is_counted_once_when_claims_and_sweeps_race(
    book: Book, ledger: Ledger, late_worker: Hand, make_hand: MakeHand
) -> None:
    task_ids = [book.new_task() for _ in range(20)]
    for task_id in task_ids:
        late_worker.take(task_id)
    book.let_lease_run_out(task_ids[-1])
    hands = [make_hand(f"worker-{number}") for number in range(2)]
    racers = [threading.Thread(target=lambda: ledger.sweep(take_over=True)) for _ in range(2)]
    racers += [threading.Thread(target=lambda hand=hand: [hand.claim(each) for each in task_ids]) for hand in hands]

    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert [book.task(task_id).crashes for task_id in task_ids] == [1] * 20
    assert [book.task(task_id).attempt for task_id in task_ids] == [2] * 20


def test_leases_are_left_alone_while_nobody_may_be_taken_over(book: Book, ledger: Ledger, late_worker: Hand) -> None:
    task_id = book.new_task()
    late_worker.take(task_id)
    book.let_lease_run_out(task_id)
    before = book.task(task_id)

    due = ledger.sweep(take_over=False)

    assert due == []
    assert book.task(task_id) == before
    assert ledger.sweep(take_over=True) == [DueJob(job=job_of(task_id, 2), takeover=True)]


def test_waiting_tasks_are_looked_at_also_while_nobody_may_be_taken_over(book: Book, ledger: Ledger) -> None:
    task_id = book.new_task()
    make_due(book, task_id)

    due = ledger.sweep(take_over=False)

    assert due == [DueJob(job=job_of(task_id, 1), takeover=False)]


def test_a_bucket_full_of_running_tasks_does_not_hide_a_waiting_one_for_ever(
    book: Book, make_ledger: MakeLedger, late_worker: Hand
) -> None:
    ledger = make_ledger()
    running = [book.new_task(task_id=f"task_0b{number:032x}") for number in range(150)]
    for task_id in running:
        late_worker.take(task_id)
    waiting = book.new_task(task_id="task_0b" + "f" * 32)
    make_due(book, waiting)
    book.let_lease_run_out(running[-1])

    due = [due.job.task_id for _ in range(3) for due in ledger.sweep(take_over=True)]

    assert sorted(due) == sorted([*running, waiting])


def test_ended_and_gone_tasks_leave_pending(book: Book, ledger: Ledger, worker: Hand, client: redis.Redis) -> None:
    ended, gone = book.new_task(), book.new_task()
    worker.write(worker.take(ended).complete("all"))
    client.delete(keys.task(gone))
    for task_id in (ended, gone):
        client.zadd(keys.pending(bucket_of(task_id)), {task_id: 1})

    due = ledger.sweep(take_over=True)

    assert due == []
    assert [book.pending_in_ms(task_id) for task_id in (ended, gone)] == [None, None]


def test_what_ended_long_ago_leaves_ended(book: Book, ledger: Ledger, client: redis.Redis) -> None:
    recent, old = book.new_task(), book.new_task()
    for task_id in (recent, old):
        ledger.cancel(task_id, by="user")
    client.zadd(keys.ended(bucket_of(old)), {old: book.now_ms() - 3_600_001})

    ledger.sweep(take_over=True)

    assert book.ended_ms(recent) is not None
    assert book.ended_ms(old) is None


def test_ten_sweepers_hand_out_each_due_task_once(book: Book, ledger: Ledger, late_worker: Hand) -> None:
    waiting = [book.new_task() for _ in range(50)]
    running = [book.new_task() for _ in range(50)]
    for task_id in running:
        late_worker.take(task_id)
    book.let_lease_run_out(running[-1])
    make_due(book, *waiting)
    due: list[DueJob] = []
    sweepers = [threading.Thread(target=lambda: due.extend(ledger.sweep(take_over=True))) for _ in range(10)]

    for sweeper in sweepers:
        sweeper.start()
    for sweeper in sweepers:
        sweeper.join()

    assert sorted(each.job.id for each in due) == sorted(
        [f"{task_id}:1" for task_id in waiting] + [f"{task_id}:2" for task_id in running]
    )
