"""Which pages may read streams."""

import pytest

from services.sse_gateway.cors import Cors


def allowed(cors: Cors, origin: str, host: str) -> bool:
    return (b"access-control-allow-origin", origin.encode()) in cors.headers(origin, host)


@pytest.mark.parametrize(
    ("origin", "host", "port", "expected"),
    [
        ("http://localhost:8080", "localhost:8081", 8080, True),
        ("http://127.0.0.1:8080", "127.0.0.1:8081", 8080, True),
        ("http://[::1]:8080", "[::1]:8081", 8080, True),
        ("https://chat.example", "chat.example:8081", 443, True),
        ("http://localhost:9999", "localhost:8081", 8080, False),
        ("http://evil.example:8080", "localhost:8081", 8080, False),
        ("http://localhost.evil.example:8080", "localhost:8081", 8080, False),
        ("null", "localhost:8081", 8080, False),
        ("http://localhost:notaport", "localhost:8081", 8080, False),
        ("", "localhost:8081", 8080, False),
    ],
)
def test_without_a_list_only_the_pages_own_origin_may_read(origin: str, host: str, port: int, expected: bool) -> None:
    assert allowed(Cors(frozenset(), port), origin, host) is expected


def test_with_a_list_only_what_is_on_it_may_read() -> None:
    cors = Cors(frozenset({"https://a.example"}), 8080)

    assert allowed(cors, "https://a.example", "localhost:8081")
    assert not allowed(cors, "http://localhost:8080", "localhost:8081")


def test_a_preflight_names_what_may_be_sent_only_to_those_who_may() -> None:
    cors = Cors(frozenset({"https://a.example"}), 8080)

    names = {name for name, _ in cors.preflight("https://a.example", "h")}
    refused = {name for name, _ in cors.preflight("https://b.example", "h")}

    assert b"access-control-allow-headers" in names
    assert refused == {b"vary"}
