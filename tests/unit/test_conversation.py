"""What a model is sent of a session."""

from shared.contracts.models import is_allowed
from shared.contracts.sessions import AnsweredTurn, Turn, conversation


def turn(question: str, answer: str | None, status: str = "completed") -> AnsweredTurn:
    return AnsweredTurn(turn=Turn(task_id="t", content=question, at_ms=0), status=status, answer=answer)


def test_questions_and_answers_alternate_and_the_new_question_is_last() -> None:
    messages = conversation([turn("one", "eins"), turn("two", "zwei", "cancelled")], "three")

    assert [(message.role, message.content) for message in messages] == [
        ("user", "one"),
        ("assistant", "eins"),
        ("user", "two"),
        ("assistant", "zwei"),
        ("user", "three"),
    ]


def test_a_turn_without_any_text_is_left_out_as_a_whole() -> None:
    messages = conversation([turn("one", None, "failed"), turn("two", "", "cancelled")], "three")

    assert [message.content for message in messages] == ["three"]


def test_models_are_matched_by_pattern_and_by_case() -> None:
    patterns = ["demo", "openai/*"]

    assert is_allowed("openai/gpt-4o", patterns)
    assert is_allowed("demo", patterns)
    assert not is_allowed("demo/slow", patterns)
    assert not is_allowed("OpenAI/gpt-4o", patterns)
    assert not is_allowed("http://evil", patterns)
    assert not is_allowed("", patterns)
