"""The fold of a task's events."""

from shared.contracts.errors import NotFound, problem_of
from shared.contracts.events import Cancelled, Completed, Delta, Failed, Reasoning, Reset, Started, Timings, Usage
from shared.contracts.transcript import Transcript


def fold(*events: object) -> Transcript:
    transcript = Transcript()
    for event in events:
        transcript.apply(event)  # type: ignore[arg-type]
    return transcript


def delta(text: str) -> Delta:
    return Delta(task_id="t", content=text)


def test_pieces_add_up_and_thinking_stays_apart() -> None:
    transcript = fold(delta("Hel"), Reasoning(task_id="t", content="hm"), delta("lo"))

    assert transcript.content == "Hello"
    assert transcript.reasoning == "hm"


def test_a_reset_replaces_what_an_earlier_attempt_said() -> None:
    transcript = fold(
        Started(task_id="t", attempt=1, model="m", queue_ms=0),
        delta("lost"),
        Started(task_id="t", attempt=2, model="m", queue_ms=9),
        Reset(task_id="t", content="kept", reasoning="", reason="worker_lost", attempt=2),
        delta(" on"),
    )

    assert transcript.content == "kept on"
    assert transcript.attempt == 2


def test_the_end_has_the_last_word() -> None:
    completed = Completed(
        task_id="t",
        content="whole",
        finish_reason="stop",
        usage=Usage(input_tokens=1, output_tokens=1),
        timings=Timings(queue_ms=0, total_ms=1),
        sha256="",
    )

    for end, text in (
        (completed, "whole"),
        (Failed(task_id="t", problem=problem_of(NotFound("session")), partial="part"), "part"),
        (Cancelled(task_id="t", by="user", partial="stopped"), "stopped"),
    ):
        transcript = fold(delta("something else"), end)
        assert transcript.content == text
        assert transcript.end is end


def test_transcripts_do_not_share_their_text() -> None:
    first = fold(delta("one"))
    second = Transcript()

    assert first.content == "one"
    assert second.content == ""
