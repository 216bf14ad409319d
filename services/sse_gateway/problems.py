"""Answers of the gateway that are no stream."""

from collections.abc import Sequence

import msgspec

from shared.contracts.errors import Problem, problem_type

Header = tuple[bytes, bytes]


def problem(status: int, code: str, title: str) -> tuple[int, list[Header], bytes]:
    """A problem (RFC 9457) as status, headers and body."""
    body = msgspec.json.encode(Problem(type=problem_type(code), title=title, code=code, status=status))
    return status, [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")], body


def empty(status: int, headers: Sequence[Header] = ()) -> tuple[int, list[Header], bytes]:
    """An answer without a body."""
    return status, list(headers), b""
