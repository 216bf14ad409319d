"""Sessions: one answer at a time, each message once, and a history that outlives its answers' workers."""

import threading
from typing import Any

import msgspec
import pytest
import redis

from shared.contracts import keys
from shared.contracts.errors import InvalidInput, NotFound, Problem, SessionBusy
from shared.contracts.events import Failed
from shared.contracts.ids import new_session_id, new_task_id
from shared.contracts.sessions import AnsweredTurn, Message, Turn, conversation
from shared.runtime.idempotency import IdempotencyKeys, Mapping
from shared.runtime.ledger import Ledger
from shared.runtime.sessions import ORPHANED_TURN_MS, Sessions, turns_before
from shared.runtime.settings import LedgerSettings
from tests.integration.conftest import Book, Hand


class Chat:
    """One owner's conversation in one session."""

    def __init__(self, sessions: Sessions, book: Book, worker: Hand, client: redis.Redis) -> None:
        self.session_id = new_session_id()
        self._sessions, self._book, self._worker = sessions, book, worker
        self._client: Any = client

    def begin(self, message: str = "Hello", *, task_id: str = "", owner: str = "anna", new: bool = True) -> str:
        """Put a message into the session, as the API does before it makes the task."""
        task_id = task_id or new_task_id()
        self._sessions.begin_turn(self.session_id, owner=owner, task_id=task_id, message=message, new=new)
        return task_id

    def ask(self, message: str = "Hello") -> str:
        """A message whose task waits."""
        return self._book.new_task(task_id=self.begin(message), session_id=self.session_id)

    def exchange(self, message: str, answer: str) -> str:
        """A message and its whole answer."""
        task_id = self.ask(message)
        self._worker.write(self._worker.take(task_id).complete(answer))
        return task_id

    def seen_by_worker(self, task_id: str) -> tuple[list[AnsweredTurn], str]:
        """What a worker reads to answer a task."""
        reading = turns_before(self._worker.client, self.session_id, task_id, LedgerSettings())
        read: tuple[list[AnsweredTurn], str] = self._worker.run(reading)
        return read

    def turns(self) -> list[Turn]:
        """The turns as the store holds them."""
        raw = self._client.lrange(keys.turns(self.session_id), 0, -1)
        return [msgspec.json.decode(turn, type=Turn) for turn in raw]

    def messages(self) -> list[str]:
        """The user's messages."""
        return [turn.content for turn in self.turns()]

    def let_the_turn_grow_old(self) -> None:
        """Its task should have been made long ago."""
        key = keys.session(self.session_id)
        self._client.hincrby(key, "active_since_ms", -(ORPHANED_TURN_MS + 1000))

    def ttls(self) -> list[int]:
        """Seconds that the session's keys still live."""
        return [self._client.ttl(key) for key in (keys.session(self.session_id), keys.turns(self.session_id))]


@pytest.fixture
def sessions(client: redis.Redis) -> Sessions:
    """Sessions with the settings of production."""
    return Sessions(client, LedgerSettings())


@pytest.fixture
def chat(sessions: Sessions, book: Book, worker: Hand, client: redis.Redis) -> Chat:
    """A conversation that has not begun."""
    return Chat(sessions, book, worker, client)


@pytest.fixture
def idempotency(client: redis.Redis) -> IdempotencyKeys:
    """The keys of requests."""
    return IdempotencyKeys(client)


def test_a_first_message_makes_the_session(chat: Chat, sessions: Sessions, book: Book) -> None:
    task_id = chat.begin("Hello")

    session = sessions.get(chat.session_id, owner="anna")

    assert session.active_task == task_id
    assert [(turn.turn.task_id, turn.turn.content, turn.answer) for turn in session.turns] == [(task_id, "Hello", None)]
    assert abs(session.created_ms - book.now_ms()) < 5000


def test_a_message_to_an_unknown_session_is_refused(chat: Chat) -> None:
    with pytest.raises(NotFound) as caught:
        chat.begin(new=False)

    assert caught.value.code == "session_not_found"
    assert chat.turns() == []


def test_a_message_to_somebody_elses_session_is_refused_as_if_it_were_unknown(chat: Chat) -> None:
    chat.exchange("mine", "yours")

    for new in (True, False):
        with pytest.raises(NotFound) as caught:
            chat.begin(owner="otto", new=new)

    assert caught.value.code == "session_not_found"
    assert chat.messages() == ["mine"]


def test_somebody_elses_session_is_not_shown(chat: Chat, sessions: Sessions) -> None:
    chat.exchange("mine", "yours")

    with pytest.raises(NotFound):
        sessions.get(chat.session_id, owner="otto")


def test_nobodys_name_opens_no_session(chat: Chat, sessions: Sessions) -> None:
    with pytest.raises(NotFound):
        sessions.get(chat.session_id, owner="anna")


@pytest.mark.parametrize("begun", [False, True], ids=["queued", "running"])
def test_a_second_message_while_an_answer_is_made_is_refused(chat: Chat, worker: Hand, begun: bool) -> None:
    task_id = chat.ask("first")
    if begun:
        worker.take(task_id)

    with pytest.raises(SessionBusy) as caught:
        chat.begin("second")

    assert caught.value.task_id == task_id
    assert chat.messages() == ["first"]


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_message_after_the_answers_end_is_taken(chat: Chat, worker: Hand, ledger: Ledger, end: str) -> None:
    task_id = chat.ask("first")
    match end:
        case "completed":
            worker.write(worker.take(task_id).complete("all"))
        case "failed":
            worker.write(worker.take(task_id).freeze(_failed(task_id, "so f")))
        case "cancelled":
            ledger.cancel(task_id, by="user")

    chat.begin("second", new=False)

    assert chat.messages() == ["first", "second"]


def test_a_message_is_taken_once_per_task(chat: Chat) -> None:
    task_id = chat.begin("Hello")

    chat.begin("Hello", task_id=task_id)

    assert chat.messages() == ["Hello"]


def test_messages_that_race_into_a_session_leave_one_winner(chat: Chat) -> None:
    outcomes: list[str] = []

    def race() -> None:
        try:
            outcomes.append(chat.begin("Hello"))
        except SessionBusy:
            outcomes.append("busy")

    racers = [threading.Thread(target=race) for _ in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert outcomes.count("busy") == 7
    assert [turn.task_id for turn in chat.turns()] == [each for each in outcomes if each != "busy"]


def test_a_turn_whose_task_is_about_to_be_made_is_waited_for(chat: Chat) -> None:
    chat.begin("first")

    with pytest.raises(SessionBusy) as caught:
        chat.begin("second")

    assert caught.value.task_id is None
    assert chat.messages() == ["first"]


def test_a_turn_whose_task_was_never_made_is_replaced(chat: Chat) -> None:
    chat.exchange("before", "answer")
    chat.begin("orphaned")
    chat.let_the_turn_grow_old()

    chat.begin("again")

    assert chat.messages() == ["before", "again"]


def test_a_turn_that_was_replaced_can_be_asked_again_when_its_turn_comes(chat: Chat) -> None:
    orphan = chat.begin("orphaned")
    chat.let_the_turn_grow_old()
    chat.exchange("between", "answer")

    chat.begin("orphaned", task_id=orphan)

    assert chat.messages() == ["between", "orphaned"]


def test_a_message_that_comes_again_after_the_next_one_is_not_taken_twice(chat: Chat) -> None:
    first = chat.exchange("first", "answer")
    chat.exchange("second", "answer")

    chat.begin("first", task_id=first)

    assert chat.messages() == ["first", "second"]


def test_a_long_wait_for_an_answer_is_no_orphan(chat: Chat) -> None:
    chat.ask("first")
    chat.let_the_turn_grow_old()

    with pytest.raises(SessionBusy):
        chat.begin("second")

    assert chat.messages() == ["first"]


def test_a_worker_reads_the_question_and_all_that_came_before(chat: Chat) -> None:
    chat.exchange("one", "1")
    chat.exchange("two", "2")
    task_id = chat.ask("three")

    turns, question = chat.seen_by_worker(task_id)

    assert question == "three"
    assert [(turn.turn.content, turn.status, turn.answer) for turn in turns] == [
        ("one", "completed", "1"),
        ("two", "completed", "2"),
    ]


def test_a_worker_that_comes_late_does_not_read_what_came_after(chat: Chat, ledger: Ledger) -> None:
    first = chat.ask("one")
    ledger.cancel(first, by="user")
    chat.ask("two")

    turns, question = chat.seen_by_worker(first)

    assert (turns, question) == ([], "one")


def test_the_text_so_far_of_a_cancelled_or_failed_answer_belongs_to_the_history(
    chat: Chat, worker: Hand, ledger: Ledger
) -> None:
    cancelled = chat.ask("one")
    worker.write(worker.take(cancelled).say("Eki", "den"))
    ledger.cancel(cancelled, by="user")
    failed = chat.ask("two")
    worker.write(worker.take(failed).freeze(_failed(failed, "so f")))
    task_id = chat.ask("three")

    turns, question = chat.seen_by_worker(task_id)

    assert conversation(turns, question) == [
        Message(role="user", content="one"),
        Message(role="assistant", content="Ekiden"),
        Message(role="user", content="two"),
        Message(role="assistant", content="so f"),
        Message(role="user", content="three"),
    ]


def test_a_turn_without_any_answer_is_left_out_of_the_conversation(chat: Chat, ledger: Ledger) -> None:
    chat.exchange("one", "1")
    ledger.cancel(chat.ask("nothing came"), by="user")
    chat.exchange("an empty answer", "")
    task_id = chat.ask("three")

    turns, question = chat.seen_by_worker(task_id)

    assert [message.content for message in conversation(turns, question)] == ["one", "1", "three"]


def test_an_answer_that_is_gone_leaves_its_turn_out(chat: Chat, client: redis.Redis) -> None:
    gone = chat.exchange("one", "1")
    task_id = chat.ask("two")
    client.delete(keys.task(gone))

    turns, question = chat.seen_by_worker(task_id)

    assert [turn.status for turn in turns] == ["gone"]
    assert [message.content for message in conversation(turns, question)] == ["two"]


def test_a_session_that_is_gone_is_told_to_the_worker(chat: Chat, client: redis.Redis) -> None:
    task_id = chat.ask()
    client.delete(keys.session(chat.session_id), keys.turns(chat.session_id))

    with pytest.raises(NotFound):
        chat.seen_by_worker(task_id)


def test_every_message_makes_the_session_live_longer(chat: Chat, client: redis.Redis) -> None:
    chat.exchange("one", "1")
    for key in (keys.session(chat.session_id), keys.turns(chat.session_id)):
        client.expire(key, 100)

    chat.ask("two")

    assert min(chat.ttls()) > 29 * 24 * 3600


def test_answers_live_as_long_as_their_session(chat: Chat, client: redis.Redis) -> None:
    earlier = chat.exchange("one", "1")
    client.expire(keys.task(earlier), 100)
    task_id = chat.ask("two")

    chat.seen_by_worker(task_id)

    assert int(client.ttl(keys.task(earlier))) > 29 * 24 * 3600


def test_reading_the_history_lets_no_running_task_expire(chat: Chat, client: redis.Redis) -> None:
    chat.exchange("one", "1")
    task_id = chat.ask("two")

    chat.seen_by_worker(task_id)

    assert client.ttl(keys.task(task_id)) == -1


def test_the_owner_sees_each_answer_with_its_turn(chat: Chat, sessions: Sessions, ledger: Ledger) -> None:
    chat.exchange("one", "1")
    ledger.cancel(chat.ask("two"), by="user")
    chat.ask("three")

    session = sessions.get(chat.session_id, owner="anna")

    assert [(turn.turn.content, turn.status, turn.answer) for turn in session.turns] == [
        ("one", "completed", "1"),
        ("two", "cancelled", ""),
        ("three", "queued", None),
    ]


def test_a_whole_answer_without_text_is_an_answer(chat: Chat, sessions: Sessions) -> None:
    chat.exchange("say nothing", "")

    [turn] = sessions.get(chat.session_id, owner="anna").turns

    assert (turn.status, turn.answer) == ("completed", "")


def test_a_new_key_stands_for_the_ids_given(idempotency: IdempotencyKeys) -> None:
    mapping, known = idempotency.resolve("anna", "k", request=b"{}", task_id="t1", session_id="s1")

    assert (mapping.task_id, mapping.session_id) == ("t1", "s1")
    assert not known


def test_a_key_seen_before_stands_for_the_ids_it_was_first_given(idempotency: IdempotencyKeys) -> None:
    first, _ = idempotency.resolve("anna", "k", request=b"{}", task_id="t1", session_id="s1")

    again, known = idempotency.resolve("anna", "k", request=b"{}", task_id="t2", session_id="s2")

    assert again == first
    assert known


def test_a_key_used_for_another_request_is_refused(idempotency: IdempotencyKeys) -> None:
    idempotency.resolve("anna", "k", request=b'{"message": "a"}', task_id="t1", session_id="s1")

    with pytest.raises(InvalidInput) as caught:
        idempotency.resolve("anna", "k", request=b'{"message": "b"}', task_id="t2", session_id="s2")

    assert caught.value.code == "idempotency_key_reused"


def test_a_refused_request_does_not_change_what_its_key_stands_for(idempotency: IdempotencyKeys) -> None:
    first, _ = idempotency.resolve("anna", "k", request=b"a", task_id="t1", session_id="s1")
    with pytest.raises(InvalidInput):
        idempotency.resolve("anna", "k", request=b"b", task_id="t2", session_id="s2")

    again, _ = idempotency.resolve("anna", "k", request=b"a", task_id="t3", session_id="s3")

    assert again == first


def test_owners_do_not_share_keys(idempotency: IdempotencyKeys) -> None:
    idempotency.resolve("anna", "k", request=b"a", task_id="t1", session_id="s1")

    mapping, known = idempotency.resolve("otto", "k", request=b"b", task_id="t2", session_id="s2")

    assert mapping.task_id == "t2"
    assert not known


def test_a_key_is_remembered_for_a_day_from_its_first_use(idempotency: IdempotencyKeys, client: redis.Redis) -> None:
    idempotency.resolve("anna", "k", request=b"a", task_id="t1", session_id="s1")
    client.expire(keys.idempotency("anna", "k"), 1000)

    idempotency.resolve("anna", "k", request=b"a", task_id="t2", session_id="s2")
    idempotency.resolve("anna", "l", request=b"a", task_id="t2", session_id="s2")

    assert 990 < int(client.ttl(keys.idempotency("anna", "k"))) <= 1000
    assert 86_390 < int(client.ttl(keys.idempotency("anna", "l"))) <= 86_400


def test_requests_that_race_under_one_key_agree_on_one_task(idempotency: IdempotencyKeys) -> None:
    resolved: list[tuple[Mapping, bool]] = []

    def race(number: int) -> None:
        resolved.append(idempotency.resolve("anna", "k", request=b"a", task_id=f"t{number}", session_id="s"))

    racers = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()

    assert len({mapping.task_id for mapping, _ in resolved}) == 1
    assert [known for _, known in resolved].count(False) == 1


def _failed(task_id: str, partial: str) -> Failed:
    problem = Problem(type="urn:ekiden:problem:x", title="x", code="x")
    return Failed(task_id=task_id, problem=problem, partial=partial)
