"""An events token opens one task's events, for a while, and nothing else."""

import jwt
import pytest

from shared.runtime.tokens import EventsTokens, InvalidToken

SECRET = "0123456789abcdef0123456789abcdef"
TASK = "task_00" + "0" * 32


def test_a_token_opens_its_own_task() -> None:
    tokens = EventsTokens(SECRET)

    tokens.check(tokens.issue(TASK, seconds=60), TASK)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        "é",
        EventsTokens(SECRET).issue("task_00" + "1" * 32, seconds=60),
        EventsTokens(SECRET).issue(TASK, seconds=-1),
        EventsTokens(SECRET[::-1]).issue(TASK, seconds=60),
        jwt.encode({"sub": TASK, "aud": "events"}, SECRET, algorithm="HS256"),
        jwt.encode({"sub": TASK, "aud": "else", "exp": 9999999999}, SECRET, algorithm="HS256"),
        jwt.encode({"sub": TASK, "aud": "events", "exp": 9999999999}, None, algorithm="none"),
    ],
    ids=["empty", "nonsense", "not ascii", "other task", "expired", "other secret", "endless", "audience", "unsigned"],
)
def test_nothing_else_opens_it(token: str) -> None:
    with pytest.raises(InvalidToken):
        EventsTokens(SECRET).check(token, TASK)


def test_every_flipped_bit_of_the_signature_shuts_it() -> None:
    tokens = EventsTokens(SECRET)
    head, body, signature = tokens.issue(TASK, seconds=60).split(".")

    for place in range(len(signature) - 1):  # the last character holds bits that encode nothing
        flipped = signature[:place] + ("A" if signature[place] != "A" else "B") + signature[place + 1 :]
        with pytest.raises(InvalidToken):
            tokens.check(f"{head}.{body}.{flipped}", TASK)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        EventsTokens("short")
