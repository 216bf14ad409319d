"""Whatever becomes of a connection, of a gateway or of a log: a client that folds by id has the whole answer once."""

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import redis

from shared.contracts import keys
from tests.event_stream import TERMINAL, Client, SeenEvent, read_events
from tests.patience import wait_until
from tests.system import Gateway, System

#: An id beyond the end of any log.
BEYOND = "9999999999999999-7"

Accepted = dict[str, Any]


@pytest.fixture(scope="module")
def store(system: System) -> Iterator[redis.Redis]:
    with system.store_client() as client:
        yield client


@pytest.fixture(scope="module")
def gateway(system: System) -> Iterator[Gateway]:
    """A gateway that is silent between entries: no ping within any test."""
    with system.another_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="module")
def finished(system: System) -> Accepted:
    """A task of some sixty entries that has ended."""
    accepted = system.post("Tell me about relay races.", model="demo/rate=150,tokens=80")
    system.read_to_end(accepted["task_id"])
    return accepted


@pytest.fixture
def finished_here(system: System) -> Accepted:
    """A short one of the test's own, to be tampered with."""
    accepted = system.post("Hello.", model="demo/rate=150,tokens=30")
    system.read_to_end(accepted["task_id"])
    return accepted


@pytest.fixture
def running(system: System) -> Iterator[Accepted]:
    """A task that says a few words and then nothing, until the test is over."""
    accepted = system.post("Think.", model="demo/stall=10,rate=100")
    wait_until(lambda: len(system.task(accepted["task_id"])["content"].split()) == 10, what="ten words")
    yield accepted
    system.http.post(accepted["urls"]["cancel"])


def log_ids(store: redis.Redis, accepted: Accepted) -> list[str]:
    return [entry_id.decode() for entry_id, _ in store.xrange(keys.log(accepted["task_id"]))]


def read(gateway: Gateway, accepted: Accepted, last_event_id: str | None = None) -> list[SeenEvent]:
    """All events of one connection, to its end."""
    with gateway.events(accepted, last_event_id) as events:
        return list(events)


def folded(events: list[SeenEvent], last_id: str | None = None) -> Client:
    client = Client()
    client.last_id = last_id
    for event in events:
        client.take(event)
    return client


def assert_whole(system: System, store: redis.Redis, accepted: Accepted, seen: list[SeenEvent]) -> None:
    """`seen`, of however many connections, is the log: each entry once, in order, and the text adds up."""
    entries = [event for event in seen if event.id is not None]
    assert [event.id for event in entries] == log_ids(store, accepted)
    content = "".join(event.data["content"] for event in entries if event.type == "delta")
    assert entries[-1].type == "completed"
    assert entries[-1].data["sha256"] == hashlib.sha256(content.encode()).hexdigest()
    assert system.task(accepted["task_id"])["content"] == content


class Follower:
    """A client that comes back after whatever happens, and keeps every event it was sent."""

    def __init__(self, gateway: Gateway, accepted: Accepted) -> None:
        self.seen: list[SeenEvent] = []
        self.connections = 0
        self._gateway = gateway
        self._accepted = accepted

    @property
    def cursor(self) -> str | None:
        return next((event.id for event in reversed(self.seen) if event.id is not None), None)

    @property
    def ended(self) -> bool:
        return bool(self.seen) and self.seen[-1].type in TERMINAL

    def read(self, at_most: int) -> None:
        """One connection, dropped after so many events."""
        self.connections += 1
        with self._gateway.events(self._accepted, self.cursor) as events:
            for event in events:
                self.seen.append(event)
                at_most -= 1
                if not at_most or self.ended:
                    return

    def read_to_end(self, drop_after: int = 10_000) -> "Follower":
        def ended() -> bool:
            with contextlib.suppress(httpx.TransportError):  # the gateway is away for a moment
                self.read(drop_after)
            return self.ended

        wait_until(ended, 40, "the end of the answer")
        return self


# From the log


def test_from_every_entry_of_an_answer_there_is_exactly_the_rest(
    gateway: Gateway, finished: Accepted, store: redis.Redis
) -> None:
    ids = log_ids(store, finished)
    whole = read(gateway, finished)

    rests = {cursor: read(gateway, finished, cursor) for cursor in ids[:-1]}

    assert len(ids) >= 40
    assert [event.id for event in whole] == ids
    for place, cursor in enumerate(ids[:-1]):
        assert rests[cursor] == whole[place + 1 :]


def test_who_has_the_last_entry_is_told_to_stop(gateway: Gateway, finished: Accepted, store: redis.Redis) -> None:
    cursor = log_ids(store, finished)[-1]

    with gateway.open(finished, cursor) as response:
        body = response.read()

    assert response.status_code == 204
    assert body == b""


def test_the_header_wins_over_the_query(gateway: Gateway, finished: Accepted, store: redis.Redis) -> None:
    ids = log_ids(store, finished)
    url = f"{finished['urls']['events']}?token={finished['events_token']}&last_event_id={ids[3]}"

    from_query = gateway.http.get(url)
    from_header = gateway.http.get(url, headers={"Last-Event-ID": ids[10]})

    assert [event.id for event in read_events([from_query.content])] == ids[4:]
    assert [event.id for event in read_events([from_header.content])] == ids[11:]


def test_the_way_through_the_api_keeps_either_cursor(system: System, finished: Accepted, store: redis.Redis) -> None:
    ids = log_ids(store, finished)

    from_query = system.http.get(finished["urls"]["events"], params={"last_event_id": ids[3]})
    from_header = system.http.get(finished["urls"]["events"], headers={"Last-Event-ID": ids[10]})

    assert [event.id for event in read_events([from_query.content])] == ids[4:]
    assert [event.id for event in read_events([from_header.content])] == ids[11:]


def test_every_connection_begins_with_when_to_come_back(gateway: Gateway, finished: Accepted) -> None:
    with gateway.open(finished) as response:
        lines = response.read().decode().split("\n")

    retry, milliseconds = lines[0].split(": ")
    assert retry == "retry"
    assert 1000 <= int(milliseconds) <= 3000
    assert lines[2].startswith(":")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert "no-store" in response.headers["cache-control"]


def test_clients_that_drop_and_come_back_while_the_answer_runs_have_all_of_it(
    system: System, gateway: Gateway, store: redis.Redis
) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=60,tokens=120")
    drops = [1, 2, 3, 7, 20]

    with ThreadPoolExecutor(len(drops)) as pool:
        followers = list(pool.map(lambda k: Follower(gateway, accepted).read_to_end(drop_after=k), drops))

    for follower in followers:
        assert_whole(system, store, accepted, follower.seen)
    assert followers[0].connections == len(followers[0].seen)


def test_fifty_clients_of_one_task_are_told_the_same(system: System, gateway: Gateway, store: redis.Redis) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=60,tokens=120")

    with ThreadPoolExecutor(50) as pool:
        transcripts = list(pool.map(lambda _: read(gateway, accepted), range(50)))

    assert_whole(system, store, accepted, transcripts[0])
    assert all(transcript == transcripts[0] for transcript in transcripts)


def test_two_tasks_never_share_an_id(system: System, store: redis.Redis) -> None:
    with ThreadPoolExecutor(16) as pool:
        tasks = list(pool.map(lambda n: system.post(f"Hello {n}.", model="demo/rate=0,tokens=3"), range(64)))
    for accepted in tasks:
        wait_until(lambda task=accepted: system.task(task["task_id"])["status"] == "completed")

    ids = [entry_id for accepted in tasks for entry_id in log_ids(store, accepted)]

    assert len(ids) == len(set(ids))


def test_the_gateway_says_whether_a_task_exists_to_nobody_without_its_token(
    gateway: Gateway, finished: Accepted
) -> None:
    there = gateway.http.get(finished["urls"]["events"])
    not_there = gateway.http.get(finished["urls"]["events"].replace(finished["task_id"], "task_00" + "0" * 32))

    assert there.status_code == not_there.status_code == 401
    assert there.content == not_there.content


# With a snapshot


def assert_resynced(events: list[SeenEvent], cursor: str, content: str, reason: str) -> None:
    assert [event.type for event in events[:2]] == ["resync", "snapshot"]
    assert events[0].id is None
    assert events[0].data["reason"] == reason
    assert events[1].id is not None
    client = folded(events, cursor)
    assert client.end is not None
    assert client.end.type == "completed"
    assert client.content == client.end.data["content"] == content


@pytest.mark.parametrize("cursor", ["1-1", "1700000000000000-0", BEYOND, "9999999999999999-9999999999999999"])
def test_a_cursor_that_is_no_entry_of_the_log_begins_anew(
    system: System, gateway: Gateway, finished: Accepted, cursor: str
) -> None:
    content = system.task(finished["task_id"])["content"]

    events = read(gateway, finished, cursor)

    reason = "trimmed" if cursor.startswith("1") else "unknown_cursor"
    assert_resynced(events, cursor, content, reason)


def test_an_id_between_two_entries_begins_anew(
    system: System, gateway: Gateway, finished: Accepted, store: redis.Redis
) -> None:
    epoch, seq = log_ids(store, finished)[-1].split("-")
    cursor = f"{epoch}-{int(seq) + 1}"

    events = read(gateway, finished, cursor)

    assert_resynced(events, cursor, system.task(finished["task_id"])["content"], "unknown_cursor")


def test_another_tasks_cursor_begins_anew(
    system: System, gateway: Gateway, finished: Accepted, finished_here: Accepted, store: redis.Redis
) -> None:
    cursor = log_ids(store, finished_here)[-1]

    events = read(gateway, finished, cursor)

    assert_resynced(events, cursor, system.task(finished["task_id"])["content"], "unknown_cursor")


def test_an_unknown_cursor_on_a_running_answer_begins_anew_and_goes_on(
    system: System, gateway: Gateway, store: redis.Redis
) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=40,tokens=80")
    wait_until(lambda: len(system.task(accepted["task_id"])["content"]) > 50, what="some text")

    events = read(gateway, accepted, BEYOND)

    assert_resynced(events, BEYOND, system.task(accepted["task_id"])["content"], "unknown_cursor")
    deltas = [event.id for event in events if event.type == "delta"]
    ids = log_ids(store, accepted)
    assert len(deltas) > 10
    assert deltas == ids[ids.index(str(events[1].id)) + 1 : -1]


def test_a_trimmed_log_is_made_good_by_a_snapshot(
    system: System, gateway: Gateway, running: Accepted, store: redis.Redis
) -> None:
    ids = log_ids(store, running)
    cursor = ids[2]
    store.xtrim(keys.log(running["task_id"]), minid=ids[6], approximate=False)

    with gateway.events(running, cursor) as events:
        first, second = next(events), next(events)

    assert (first.type, first.data["reason"]) == ("resync", "trimmed")
    assert (second.type, second.id) == ("snapshot", ids[-1])
    assert second.data["status"] == "running"


def test_a_trimmed_log_of_an_ended_task_ends_in_the_whole_text(
    system: System, gateway: Gateway, finished_here: Accepted, store: redis.Redis
) -> None:
    content = system.task(finished_here["task_id"])["content"]
    ids = log_ids(store, finished_here)
    store.xtrim(keys.log(finished_here["task_id"]), minid=ids[10], approximate=False)

    resumed = {cursor: read(gateway, finished_here, cursor) for cursor in (None, ids[0], ids[9])}
    after = read(gateway, finished_here, ids[10])

    assert_resynced(resumed[ids[0]], ids[0], content, "trimmed")
    assert_resynced(resumed[ids[9]], ids[9], content, "trimmed")
    assert folded(resumed[None]).content == content
    assert [event.id for event in after] == ids[11:]


@pytest.mark.parametrize("which", ["none", "the first", "an old one", "beyond the end"])
def test_an_expired_log_is_made_good_by_a_snapshot_and_the_end(
    system: System, gateway: Gateway, finished_here: Accepted, store: redis.Redis, which: str
) -> None:
    content = system.task(finished_here["task_id"])["content"]
    ids = log_ids(store, finished_here)
    cursor = {"none": None, "the first": ids[0], "an old one": ids[-2], "beyond the end": BEYOND}[which]
    store.delete(keys.log(finished_here["task_id"]))

    events = read(gateway, finished_here, cursor)

    assert [event.type for event in events] == ["snapshot", "completed"]
    assert events[-1].id == ids[-1]
    client = folded(events, cursor)
    assert client.end is not None, "a client that folds by id must see the end"
    assert client.content == content


def test_an_expired_log_still_tells_its_last_readers_to_stop(
    gateway: Gateway, finished_here: Accepted, store: redis.Redis
) -> None:
    cursor = log_ids(store, finished_here)[-1]
    store.delete(keys.log(finished_here["task_id"]))

    with gateway.open(finished_here, cursor) as response:
        response.read()

    assert response.status_code == 204


def test_a_deleted_task_is_not_found(
    system: System, gateway: Gateway, finished_here: Accepted, store: redis.Redis
) -> None:
    task_id = finished_here["task_id"]
    cursor = log_ids(store, finished_here)[3]
    store.delete(keys.log(task_id), keys.task(task_id))

    with gateway.open(finished_here, cursor) as response:
        problem = json.loads(response.read())
    by_the_api = system.http.get(finished_here["urls"]["self"])

    assert (response.status_code, problem["code"]) == (404, "task_not_found")
    assert (by_the_api.status_code, by_the_api.json()["code"]) == (404, "task_not_found")


def test_a_task_that_is_deleted_under_its_readers_ends_their_streams(
    system: System, gateway: Gateway, store: redis.Redis
) -> None:
    accepted = system.post("Think.", model="demo/stall=5,rate=100")
    with gateway.events(accepted) as events:
        client = Client()
        for event in events:
            client.take(event)
            if client.types.count("delta") == 3:
                store.delete(keys.log(accepted["task_id"]), keys.task(accepted["task_id"]))
                break
        rest = list(events)

    assert rest[-1].type == "failed"
    assert rest[-1].id is None
    assert rest[-1].data["problem"]["code"] == "task_gone"
    assert [event.type for event in rest].count("failed") == 1
    wait_until(lambda: system.model_stats()["open_connections"] == 0, what="nobody listens to the model")


# Faults


def test_a_gateway_that_loses_its_subscriptions_loses_no_entry(
    system: System, gateway: Gateway, store: redis.Redis
) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=60,tokens=150")
    done = threading.Event()

    def kill_again_and_again() -> int:
        killed = 0
        while not done.wait(0.1):
            killed += store.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        return killed

    with ThreadPoolExecutor(5) as pool:
        killing = pool.submit(kill_again_and_again)
        transcripts = list(pool.map(lambda _: read(gateway, accepted), range(4)))
        done.set()

    assert killing.result() >= 5
    for transcript in transcripts:
        assert_whole(system, store, accepted, transcript)


def test_a_gateway_that_is_killed_under_its_streams_loses_no_entry(system: System, store: redis.Redis) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=30,tokens=150")
    with system.another_gateway() as gateway, ThreadPoolExecutor(4) as pool:
        followers = [Follower(gateway, accepted) for _ in range(4)]
        reading = [pool.submit(follower.read_to_end) for follower in followers]

        for least in (10, 60):
            wait_until(lambda least=least: all(len(f.seen) >= least for f in followers), what="events")  # type: ignore[misc]
            gateway.child.kill()
            system.restart(gateway.child)
        for future in reading:
            future.result(timeout=40)

    assert all(follower.connections >= 3 for follower in followers)
    for follower in followers:
        assert_whole(system, store, accepted, follower.seen)


def test_a_gateway_that_is_told_to_end_sends_its_clients_elsewhere(system: System, running: Accepted) -> None:
    with system.another_gateway(EKIDEN_GATEWAY_DRAIN_SECONDS="1") as gateway, ThreadPoolExecutor(20) as pool:
        opened = threading.Barrier(21)

        def read_all(_: int) -> bytes:
            with gateway.open(running) as response:
                opened.wait(timeout=10)
                return b"".join(response.iter_raw())

        reading = [pool.submit(read_all, n) for n in range(20)]
        opened.wait(timeout=10)
        began = time.monotonic()
        gateway.child.terminate()
        streams = [future.result(timeout=20) for future in reading]
        wait_until(lambda: not gateway.child.is_running(), what="the gateway has ended")
        seconds = time.monotonic() - began
        ending = gateway.child.how_it_ended()

    for stream in streams:
        *_, last = read_events([stream])
        assert (last.type, last.id, last.data["reason"]) == ("reconnect", None, "drain")
        assert b"retry: " in stream.split(b"\n\n")[-4]
        assert not any(name in stream for name in (b"event: completed", b"event: failed", b"event: cancelled"))
    assert ending == "exit status 0"
    assert seconds < 3


def test_who_comes_while_a_gateway_drains_is_asked_to_come_again(system: System, running: Accepted) -> None:
    with system.another_gateway(EKIDEN_GATEWAY_DRAIN_SECONDS="3") as gateway, gateway.open(running) as held:
        next(held.iter_raw())
        gateway.child.terminate()
        wait_until(lambda: '"draining"' in gateway.child.log.read_text(), what="draining")

        with gateway.open(running) as response:
            body = response.read()

    assert response.status_code == 200
    assert body.startswith(b"retry: ")
    assert b"event: " not in body


def test_an_old_connection_is_ended_in_order_and_the_next_goes_on(system: System, store: redis.Redis) -> None:
    accepted = system.post("Tell me about relay races.", model="demo/rate=30,tokens=100")
    with system.another_gateway(EKIDEN_MAX_CONNECTION_SECONDS="1") as gateway:
        with gateway.open(accepted) as response:
            raw = response.read()
        follower = Follower(gateway, accepted)
        follower.seen = list(read_events([raw]))

        follower.read_to_end()

    *_, opening, comment, reconnect, nothing = raw.split(b"\n\n")
    assert opening.startswith(b"retry: ")
    assert comment.startswith(b":")
    assert reconnect.startswith(b"event: reconnect\n")
    assert b'"reason":"max_age"' in reconnect
    assert nothing == b""
    assert follower.connections >= 2
    assert_whole(system, store, accepted, follower.seen)


def test_a_silent_stream_is_kept_awake_by_pings(system: System) -> None:
    accepted = system.post("Think.", model="demo/hang")
    with system.another_gateway(EKIDEN_PING_SECONDS="0.3") as gateway:
        with gateway.open(accepted) as response:
            raw = b""
            for chunk in response.iter_raw():
                raw += chunk
                if raw.count(b"event: ping") == 3:
                    break
        system.http.post(accepted["urls"]["cancel"])

    assert raw.count(b": ping\n\nevent: ping\ndata: {") == 3
    pings = [event for event in read_events([raw]) if event.type == "ping"]
    assert all(ping.id is None and ping.data == {"type": "ping", "task_id": accepted["task_id"]} for ping in pings)


def test_who_listens_while_the_task_waits_is_told_of_a_cancel(system: System, gateway: Gateway) -> None:
    accepted = system.post("Think.", model="demo/hang")
    with gateway.events(accepted) as events:
        assert [next(events).type, next(events).type] == ["created", "started"]

        system.http.post(accepted["urls"]["cancel"])
        rest = list(events)

    assert [event.type for event in rest] == ["cancelled"]


# Text

TEXTS = {
    "line breaks": "one\ntwo\r\nthree\rfour\n\n\nfive",
    "quotes": "\"'`“”«»\\\\ \\n \\u0000 \\ud800 </script><!--",
    "emoji": "👩🏽‍🚀👨‍👩‍👧‍👦🇯🇵 é é 駅伝 ﷽ 𝒳",
    "line separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "NUL and other controls": "a\x00b\x01c\x1fd\x7fe\x80f\ufeffg\ufffeh\uffff",
    "an event": "\n\nevent: completed\ndata: {}\n\nid: 9999999999999-0\nretry: 1\n: comment\n\ndata: [DONE]\n\n",
    "an entry of the log": '9999999999999-0 0-0 completed event: completed\ndata: {"type":"completed"}\n\n',
    "JSON": '{"type":"completed","content":"x"}',
    "Lua": '" .. redis.call("FLUSHALL") .. "%s %0 %1',
    "right to left": "\u202eabc\u202c שלום مرحبا",
    "only spaces inside": "x" + " " * 300 + "\t\t\ty",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_arrives_as_it_was_and_forges_nothing(
    system: System, gateway: Gateway, store: redis.Redis, text: str
) -> None:
    accepted = system.post(text, model="demo/echo,rate=0")

    with gateway.open(accepted) as response:
        raw = response.read()

    events = list(read_events([raw]))
    client = folded(events)
    assert client.content.encode() == text.encode()
    assert client.end is not None
    assert client.end.data["content"].encode() == text.encode()
    assert [event.id for event in events] == log_ids(store, accepted)
    assert {event.type for event in events} == {"created", "started", "delta", "completed"}
    assert raw.count(b"\nevent: completed\n") == 1
    assert system.task(accepted["task_id"])["content"].encode() == text.encode()
    history = system.http.get(f"/api/async/sessions/{accepted['session_id']}").json()["messages"]
    assert [message["content"].encode() for message in history] == [text.encode()] * 2


def test_text_stays_as_it_was_through_a_cancel(system: System, gateway: Gateway) -> None:
    text = "".join(TEXTS.values())
    accepted = system.post(text + "x" * 4000, model="demo/echo,rate=200")
    client = Client()
    with gateway.events(accepted) as events:
        for event in events:
            client.take(event)
            if len(client.content) > len(text):
                break

    cancelled = system.http.post(accepted["urls"]["cancel"]).json()

    assert cancelled["status"] == "cancelled"
    assert (text + "x" * 4000).startswith(cancelled["content"])
    assert cancelled["content"].startswith(client.content)
    end = gateway.read_to_end(accepted).end
    assert end is not None
    assert end.data["partial"] == cancelled["content"]


def test_a_text_of_64_kib_arrives_as_it_was(system: System, gateway: Gateway, store: redis.Redis) -> None:
    text = "".join(chr(0x20000 + n % 5000) for n in range(64 * 1024 // 4))  # rare kanji of four bytes each
    accepted = system.post(text, model="demo/echo,rate=0")

    client = gateway.read_to_end(accepted)

    assert client.content == text
    assert system.task(accepted["task_id"])["content"] == text
    ids = log_ids(store, accepted)
    again = read(gateway, accepted, ids[1])
    assert [event.id for event in again] == ids[2:]


def test_a_redirect_to_the_stream_is_a_get_without_the_body(system: System) -> None:
    body = {"message": "Hello.", "model": "demo/rate=0"}

    response = system.http.post("/api/async/chat/stream", json=body, follow_redirects=False)

    assert response.status_code == 303
    assert response.content == b""
    stream = system.http.get(response.headers["location"])
    assert stream.headers["x-task-id"] == response.headers["x-task-id"]
    assert list(read_events([stream.content]))[-1].type == "completed"


def test_a_signal_that_comes_twice_ends_the_gateway_at_once(system: System, running: Accepted) -> None:
    with system.another_gateway(EKIDEN_GATEWAY_DRAIN_SECONDS="60") as gateway, gateway.open(running) as response:
        next(response.iter_raw())
        gateway.child.terminate()
        wait_until(lambda: '"draining"' in gateway.child.log.read_text(), what="draining")

        gateway.child.terminate()

        wait_until(lambda: not gateway.child.is_running(), 10, "the gateway has ended")
        assert gateway.child.how_it_ended() in ("exit status 0", signal.SIGTERM.name)
