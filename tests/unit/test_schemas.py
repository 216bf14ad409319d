"""A body is checked whole, and its first fault is named with its place."""

import pytest

from services.api.body import decode
from services.api.schemas import ChatRequest
from shared.contracts.errors import InvalidInput


@pytest.mark.parametrize(
    ("raw", "code", "path"),
    [
        (b"{", "malformed_json", None),
        (b'{"message": "\\ud800"}', "malformed_json", None),
        (b'{"message": "\xff"}', "malformed_json", None),
        (b"[" * 100_000, "invalid_field", "$"),
        (b"[]", "invalid_field", "$"),
        (b"{}", "missing_field", "$.message"),
        (b'{"message": 1}', "invalid_field", "$.message"),
        (b'{"message": ""}', "invalid_field", "$.message"),
        (b'{"message": "x", "model": 7}', "invalid_field", "$.model"),
        (b'{"message": "x", "priority": "high"}', "unknown_field", "$.priority"),
        (b'{"message": "x", "a`b - at `$.c`": 1}', "unknown_field", "$.a`b - at `$.c`"),
    ],
)
def test_each_fault_has_its_code_and_its_place(raw: bytes, code: str, path: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        decode(raw, ChatRequest)

    assert caught.value.code == code
    assert caught.value.path == path


def test_a_right_body_keeps_every_character() -> None:
    request = decode('{"message": "\\u0000 \\ud83d\\ude00 \u2028 \\n"}'.encode(), ChatRequest)

    assert request.message == "\x00 😀 \u2028 \n"
