"""SSE bytes: any text arrives as it was, and none forges a field."""

import json

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.errors import NotFound, problem_of
from shared.contracts.events import Delta, Failed, Ping
from shared.contracts.frames import decode_frame, encode_frame, retry_frame, with_id
from tests.event_stream import read_events

any_text = st.text(st.characters(exclude_categories=["Cs"]))


@given(any_text)
def test_any_text_arrives_unchanged_and_as_one_event(text: str) -> None:
    event = Delta(task_id="t", content=text)

    [seen] = read_events([with_id(b"1-0", encode_frame(event))])

    assert seen.type == "delta"
    assert seen.id == "1-0"
    assert seen.data == {"type": "delta", "task_id": "t", "content": text}


@given(any_text)
def test_a_frame_decodes_to_the_event_it_was_made_of(text: str) -> None:
    event = Delta(task_id="t", content=text)

    assert decode_frame(encode_frame(event)) == event


@given(any_text)
def test_a_frame_has_exactly_two_lines_whatever_the_text(text: str) -> None:
    frame = encode_frame(Delta(task_id="t", content=text))

    assert frame.count(b"\n") == 3
    assert b"\r" not in frame
    assert frame.endswith(b"\n\n")


def test_text_that_looks_like_an_event_forges_none() -> None:
    text = "\n\nevent: completed\ndata: {}\n\nid: 9-9\n\u2028\r\nretry: 1\n\n"

    events = list(read_events([encode_frame(Delta(task_id="t", content=text)), encode_frame(Ping(task_id="t"))]))

    assert [event.type for event in events] == ["delta", "ping"]
    assert events[0].data["content"] == text


def test_a_frame_cut_anywhere_is_read_whole() -> None:
    stream = retry_frame(1000) + with_id(b"7-3", encode_frame(Delta(task_id="t", content="駅伝 😀")))

    for cut in range(len(stream)):
        [event] = read_events([stream[:cut], stream[cut:]])
        assert event.data["content"] == "駅伝 😀"


def test_a_problem_in_an_event_says_nothing_it_does_not_know() -> None:
    frame = encode_frame(Failed(task_id="t", problem=problem_of(NotFound("session")), partial=""))

    data = json.loads(frame.split(b"\ndata: ")[1])

    assert data["problem"] == {
        "type": "urn:ekiden:problem:session_not_found",
        "title": "There is no such thing",
        "code": "session_not_found",
        "retryable": False,
    }
