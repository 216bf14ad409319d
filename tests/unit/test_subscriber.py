"""One stream's seam from replay to live: whatever is lost, late or twice, the client gets each entry once, in order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from services.sse_gateway.subscriber import Subscriber
from shared.contracts.entries import LogEntry
from shared.contracts.events import Delta, Ping
from shared.contracts.frames import encode_frame
from tests.event_stream import read_events


def log_of(epochs: list[int]) -> list[LogEntry]:
    """A log with so many entries per epoch; the very last is terminal."""
    entries: list[LogEntry] = []
    previous = b"0-0"
    for number, count in enumerate(epochs):
        for seq in range(count):
            entry_id = b"%d-%d" % (100 + number, seq)
            frame = encode_frame(Delta(task_id="t", content=entry_id.decode()))
            entries.append(LogEntry(entry_id, previous, b"delta", frame))
            previous = entry_id
    entries[-1] = entries[-1]._replace(type=b"completed")
    return entries


def received(data: bytes) -> list[str]:
    return [event.id for event in read_events([data]) if event.id is not None]


@settings(max_examples=400)
@given(
    epochs=st.lists(st.integers(1, 8), min_size=1, max_size=4),
    steps=st.lists(
        st.sampled_from(["append", "lose", "begin", "finish", "take", "acknowledge", "repeat"]), max_size=80
    ),
    page=st.integers(1, 5),
    max_bytes=st.integers(60, 600),
)
def test_each_entry_reaches_the_client_once_and_in_order(
    epochs: list[int], steps: list[str], page: int, max_bytes: int
) -> None:
    log = log_of(epochs)
    subscriber = Subscriber(max_bytes=max_bytes)
    written = 0
    seen: list[str] = []
    reading: tuple[list[LogEntry], bool] | None = None

    def read() -> tuple[list[LogEntry], bool]:
        cursor = subscriber.begin_read().encode()
        start = next((place + 1 for place in range(written) if log[place].id == cursor), 0)
        entries = log[start:written][:page]
        return entries, len(entries) == page

    for step in [*steps, "finish", "acknowledge"]:
        match step:
            case "append" | "lose" if written < len(log):
                written += 1
                if step == "append":
                    subscriber.offer(log[written - 1])
            case "repeat" if written:
                subscriber.offer(log[written // 2])
            case "begin" if reading is None and subscriber.behind:
                reading = read()
            case "finish" if reading is not None:
                subscriber.end_read(reading[0], more=reading[1])
                reading = None
            case "take":
                seen += received(subscriber.take())
            case "acknowledge":
                subscriber.must_read()
    written = len(log)
    subscriber.must_read()
    for _ in range(10 * len(log)):
        if not subscriber.behind:
            break
        entries, more = read()
        subscriber.end_read(entries, more=more)
        seen += received(subscriber.take())
    seen += received(subscriber.take())

    assert seen == [entry.id.decode() for entry in log]
    assert subscriber.ended


def test_what_waits_is_bounded_and_what_did_not_fit_is_read_again() -> None:
    log = log_of([50])
    subscriber = Subscriber(max_bytes=1000)
    subscriber.begin_read()
    subscriber.end_read([], more=False)

    for entry in log:
        subscriber.offer(entry)

    waiting = subscriber.take()
    assert 0 < len(waiting) <= 1000 + len(log[0].frame) + 20
    assert subscriber.behind
    assert subscriber.begin_read() == received(waiting)[-1]


def test_after_a_snapshot_only_what_follows_it_is_passed_on() -> None:
    log = log_of([10])
    subscriber = Subscriber(cursor="99-5", max_bytes=10_000)
    subscriber.begin_read()

    subscriber.restart_at(log[4].id.decode())
    subscriber.begin_read()
    subscriber.end_read(log[5:], more=False)

    assert received(subscriber.take()) == [entry.id.decode() for entry in log[5:]]


def test_events_without_an_id_do_not_move_the_cursor() -> None:
    [ping] = read_events([encode_frame(Ping(task_id="t"))])

    assert ping.id is None
