"""What cannot be served is refused: with the right status, as a problem with a stable code, and without a trace."""

import contextlib
import http.client
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import jwt
import pytest

from shared.contracts import keys
from shared.contracts.ids import all_buckets
from tests.patience import wait_until
from tests.system import System

CHAT = "/api/async/chat"
STREAM = "/api/async/chat/stream"

#: The secret that tests/system.py gives to API and gateway.
SECRET = "a secret of the tests, 32 bytes and more"

#: Ids that have the right shape and belong to nobody.
UNKNOWN_TASK = "task_00" + "0" * 32
UNKNOWN_SESSION = "sess_" + "0" * 32

#: What would show that an exception, a library or a file of ours speaks.
OUR_INSIDES = re.compile(
    r"msgspec|traceback|redis|valkey|falcon|gunicorn|uvicorn|dramatiq|litellm|\.py\b|exception|/work/|site-packages",
    re.I,
)


@pytest.fixture(autouse=True)
def nothing_is_accepted(system: System) -> Iterator[None]:
    """Every test here leaves store, queue and model as they were: a refused request leaves nothing behind."""
    wait_until(lambda: not running(system), what="the end of earlier tasks")
    before = traces(system)
    yield
    assert traces(system) == before


def running(system: System) -> int:
    with system.store_client() as store, store.pipeline(transaction=False) as pipeline:
        for bucket in all_buckets():
            pipeline.zcard(keys.pending(bucket))
        return sum(pipeline.execute())


def traces(system: System) -> dict[str, object]:
    """All that an accepted request would have changed."""
    with system.store_client() as store:
        names = sorted(store.scan_iter("ekiden:*", count=10_000))
        jobs = store.llen("dramatiq:llm") + store.hlen("dramatiq:llm.msgs")
        logs = {name: store.xlen(name) for name in names if b":log:" in name}
        turns = {name: store.llen(name) for name in names if name.endswith(b":turns")}
    asked = system.model_stats()["requests"]
    return {"names": names, "jobs": jobs, "logs": logs, "turns": turns, "asked": asked}


def assert_problem(status: int, headers: Any, body: bytes, *, expected: int, code: str, path: str | None) -> None:
    assert status == expected, body
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["code"] == code
    assert problem["type"] == f"urn:ekiden:problem:{code}"
    assert problem["status"] == expected
    assert problem["title"]
    assert [error["path"] for error in problem.get("errors", [])] == ([path] if path is not None else [])
    assert not OUR_INSIDES.search(body.decode()), body


def assert_refused(response: httpx.Response, expected: int, code: str, path: str | None = None) -> None:
    assert_problem(response.status_code, response.headers, response.content, expected=expected, code=code, path=path)


def post(system: System, body: bytes, path: str = CHAT, **headers: str) -> httpx.Response:
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return system.http.post(path, content=body, headers=named)


def message(**fields: Any) -> bytes:
    return json.dumps({"message": "Hello", **fields}).encode()


NOT_JSON = {
    "half an object": b'{"message":',
    "two values": b'{"message": "x"} {"message": "y"}',
    "a comma too many": b'{"message": "x",}',
    "single quotes": b"{'message': 'x'}",
    "an escaped lone surrogate": b'{"message": "\\ud800"}',
    "escaped surrogates in the wrong order": b'{"message": "\\udc00\\ud800"}',
    "half an escape": b'{"message": "\\ud8"}',
    "a surrogate in raw CESU-8": b'{"message": "\xed\xa0\x80"}',
    "a pair of surrogates in raw CESU-8": b'{"message": "\xed\xa0\xbd\xed\xb8\x80"}',
    "bytes that are no UTF-8": b'{"message": "\xff\xfe"}',
    "an overlong NUL": b'{"message": "\xc0\x80"}',
    "a character cut in half": b'{"message": "\xe9\xa7"}',
    "invalid UTF-8 in a field's name": b'{"message": "x", "\xff": 1}',
    "a byte order mark": b'\xef\xbb\xbf{"message": "x"}',
    "UTF-16": '{"message": "x"}'.encode("utf-16"),
    "a raw line break in a string": b'{"message": "a\nb"}',
    "a raw NUL in a string": b'{"message": "a\x00b"}',
    "NaN": b'{"message": NaN}',
    "Infinity": b'{"message": -Infinity}',
    "a form": b"message=Hello",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_in_utf_8_is_refused(system: System, body: bytes) -> None:
    response = post(system, body)

    assert_refused(response, 400, "malformed_json")


@dataclass(frozen=True)
class Fault:
    """A body of good JSON that is no chat request, and how it is refused."""

    body: bytes
    code: str
    path: str


def wrong_type(field: str, value: Any) -> Fault:
    return Fault(message(**{field: value}), "invalid_field", f"$.{field}")


FAULTS = {
    "an empty object": Fault(b"{}", "missing_field", "$.message"),
    "an array": Fault(b'["Hello"]', "invalid_field", "$"),
    "a string": Fault(b'"Hello"', "invalid_field", "$"),
    "null": Fault(b"null", "invalid_field", "$"),
    "a number": Fault(b"1e400", "invalid_field", "$"),
    "an array nested 100,000 deep": Fault(b"[" * 100_000 + b"]" * 100_000, "invalid_field", "$"),
    "a message nested 100,000 deep": Fault(
        b'{"message":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_field", "$.message"
    ),
    "a nest without an end": Fault(b'{"message": "x", "model":' + b"[" * 100_000, "invalid_field", "$.model"),
    "an unknown field nested 100,000 deep": Fault(
        b'{"message": "x", "deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "unknown_field", "$.deep"
    ),
    "an empty message": wrong_type("message", ""),
    "a message of white space": wrong_type("message", " \n\t\r\u3000\u2028"),
    "an empty model": wrong_type("model", ""),
    "a model of 201 characters": wrong_type("model", "demo/" + "x" * 196),
    "a session id of 201 characters": wrong_type("session_id", "s" * 201),
    **{f"message {value!r}": wrong_type("message", value) for value in (None, 1, 1.5, True, [], ["x"], {}, {"a": "b"})},
    **{f"model {value!r}": wrong_type("model", value) for value in (1, False, ["demo"], {"name": "demo"})},
    **{f"session_id {value!r}": wrong_type("session_id", value) for value in (1, False, [], {})},
    **{
        f"the field {field}, which is not served yet": Fault(message(**{field: value}), "unknown_field", f"$.{field}")
        for field, value in {
            "system": "Be brief.",
            "params": {"temperature": 0},
            "priority": "high",
            "cache": True,
            "on_conflict": "queue",
        }.items()
    },
    **{
        f"the unknown field {field!r}": Fault(message(**{field: 1}), "unknown_field", f"$.{field}")
        for field in ("Message", "api_base", "api_key", "stream", "", "a`b", "a - at `$.b`", "駅", "a\nb", "a.b")
    },
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_in_a_request_is_named_by_its_path(system: System, fault: Fault) -> None:
    response = post(system, fault.body)

    assert_refused(response, 422, fault.code, fault.path)


@pytest.mark.parametrize(
    "model",
    [
        "http://evil.example/v1",
        "openai/gpt-4o",
        "openai/x",
        "azure/demo",
        "Demo",
        "demo2",
        " demo",
        "demo ",
        "demo\n",
        "x/demo/y",
        "../demo",
        "*",
        "demo|openai",
    ],
)
def test_a_model_outside_the_operators_list_is_refused(system: System, model: str) -> None:
    body = message(model=model)

    response = post(system, body)

    assert_refused(response, 422, "unknown_model", "$.model")


@pytest.mark.parametrize(
    "session_id",
    [
        UNKNOWN_SESSION,
        "",
        "x",
        "*",
        UNKNOWN_TASK,
        "sess_" + "0" * 31,
        "sess_" + "0" * 33,
        "sess_" + "0" * 32 + "\n",
        "sess_" + "A" * 32,
        "sess_" + "０" * 32,
        "{x}:session",
        "../../etc/passwd",
        "a\x00b",
    ],
)
def test_a_message_to_a_session_that_is_not_there_is_refused(system: System, session_id: str) -> None:
    body = message(session_id=session_id)

    response = post(system, body)

    assert_refused(response, 404, "session_not_found")


@pytest.mark.parametrize("path", [CHAT, STREAM])
def test_a_request_without_a_body_is_refused(system: System, path: str) -> None:
    response = post(system, b"", path)

    assert_refused(response, 400, "empty_body")


@pytest.mark.parametrize("path", [CHAT, STREAM])
def test_a_message_of_a_megabyte_is_refused(system: System, path: str) -> None:
    body = json.dumps({"message": "x" * 1024 * 1024}).encode()

    response = post(system, body, path)

    assert_refused(response, 413, "body_too_large")


@pytest.mark.parametrize("path", [CHAT, STREAM])
def test_a_body_that_hides_its_size_in_chunks_is_refused_all_the_same(system: System, path: str) -> None:
    chunks = iter([b'{"message": "', *[b"x" * 4096] * 80, b'"}'])

    response = system.http.post(path, content=chunks, headers={"Content-Type": "application/json"})

    assert "content-length" not in response.request.headers
    assert_refused(response, 413, "body_too_large")


def test_a_chunked_body_that_breaks_the_protocol_is_the_clients_fault(system: System) -> None:
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"

    status, headers, body = raw_request(system.http_port, head.encode() + b"not a size\r\n{}\r\n0\r\n\r\n")

    assert_problem(status, headers, body, expected=400, code=json.loads(body)["code"], path=None)


@pytest.mark.parametrize("host", ["127.0.0.1:http", "[::1]:x"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/"), ("POST", STREAM)])
def test_a_host_that_is_none_is_the_clients_fault(system: System, host: str, method: str, path: str) -> None:
    body = message() if method == "POST" else b""
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"

    status, headers, answer = raw_request(system.http_port, head.encode() + b"\r\n\r\n" + body)

    assert_problem(status, headers, answer, expected=400, code=json.loads(answer)["code"], path=None)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nno header: x\r\n\r\n",
        b"POST /api/async/chat HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
        b"POST /api/async/chat HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
@pytest.mark.parametrize("server", ["api", "gateway"])
def test_what_is_not_http_is_refused_by_either_server(system: System, server: str, request_bytes: bytes) -> None:
    port = system.http_port if server == "api" else system.gateway_port

    status, _, body = raw_request(port, request_bytes)

    assert 400 <= status < 500
    assert not OUR_INSIDES.search(body.decode()), body


@pytest.mark.parametrize(
    "beginning",
    [
        f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{{",
        f"GET {CHAT}",
    ],
    ids=["of a body", "of a head"],
)
def test_clients_that_never_finish_their_request_keep_nobody_else_waiting(system: System, beginning: str) -> None:
    with contextlib.ExitStack() as connections:
        for _ in range(40):  # more than the API has threads
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", system.http_port)))
            connection.sendall(beginning.encode())

        answers = [system.http.get("/api/async/models", headers={"Connection": "close"}, timeout=15) for _ in range(9)]

    assert [answer.status_code for answer in answers] == [200] * 9


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
    ],
)
@pytest.mark.parametrize("path", [CHAT, STREAM])
def test_a_body_that_is_not_called_json_is_refused(system: System, content_type: str | None, path: str) -> None:
    headers = {} if content_type is None else {"Content-Type": content_type}

    response = system.http.post(path, content=message(), headers=headers)

    assert_refused(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("PUT", CHAT, "POST"),
        ("DELETE", CHAT, "POST"),
        ("PATCH", STREAM, "POST"),
        ("GET", STREAM, "POST"),
        ("POST", f"/api/async/tasks/{UNKNOWN_TASK}", "GET"),
        ("DELETE", f"/api/async/tasks/{UNKNOWN_TASK}", "GET"),
        ("POST", f"/api/async/tasks/{UNKNOWN_TASK}/events", "GET"),
        ("GET", f"/api/async/tasks/{UNKNOWN_TASK}/cancel", "POST"),
        ("POST", f"/api/async/sessions/{UNKNOWN_SESSION}", "GET"),
        ("POST", "/api/async/models", "GET"),
        ("POST", "/", "GET"),
    ],
)
def test_a_wrong_method_is_told_the_right_one(system: System, method: str, path: str, allowed: str) -> None:
    response = system.http.request(method, path)

    assert_refused(response, 405, "method_not_allowed")
    assert allowed in response.headers["allow"].split(", ")
    assert method not in response.headers["allow"].split(", ")


def test_a_method_that_nobody_knows_is_refused(system: System) -> None:
    response = system.http.request("BREW", CHAT)

    assert response.status_code in (400, 405, 501)
    assert response.headers["content-type"] == "application/problem+json"
    assert not OUR_INSIDES.search(response.text)


BAD_TASK_IDS = {
    "unknown": UNKNOWN_TASK,
    "short": "task_00",
    "long": UNKNOWN_TASK + "0",
    "bucket too high": "task_40" + "0" * 32,
    "upper case": "task_00" + "A" * 32,
    "a session's": UNKNOWN_SESSION,
    "a pattern": "*",
    "a hash tag": "%7Bx%7D",
    "line break": UNKNOWN_TASK + "%0A",
    "NUL": "%00",
    "no UTF-8": "%FF%FE",
    "wide digits": "task_" + "%EF%BC%90" * 34,
    "a dot": ".",
    "two dots": "..",
    "dots, encoded": "%2e%2e",
}


@pytest.mark.parametrize(
    ("method", "tail"), [("GET", ""), ("GET", "/events"), ("POST", "/cancel")], ids=["get", "events", "cancel"]
)
@pytest.mark.parametrize("task_id", BAD_TASK_IDS.values(), ids=BAD_TASK_IDS.keys())
def test_a_task_that_is_not_there_is_not_found(system: System, method: str, tail: str, task_id: str) -> None:
    status, headers, body = verbatim(system.http_port, method, f"/api/async/tasks/{task_id}{tail}")

    assert_problem(status, headers, body, expected=404, code="task_not_found", path=None)


@pytest.mark.parametrize(
    "session_id",
    [UNKNOWN_SESSION, "sess_", UNKNOWN_TASK, "*", "%00", "%FF", UNKNOWN_SESSION + "%0A", "sess_" + "A" * 32, ".."],
)
def test_a_session_that_is_not_there_is_not_found(system: System, session_id: str) -> None:
    status, headers, body = verbatim(system.http_port, "GET", f"/api/async/sessions/{session_id}")

    assert_problem(status, headers, body, expected=404, code="session_not_found", path=None)


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api",
        "/api/async",
        "/api/async/",
        "/api/async/tasks",
        "/api/async/chat/",
        "/api/async/../async/chat",
        "/API/async/chat",
        "/api/async/tasks/a%2Fb",
        "/api/async/tasks/..%2f..%2f..%2fetc%2fpasswd",
        "/client/../../pyproject.toml",
        "/client/..%2f..%2fpyproject.toml",
        "/client/%2e%2e/%2e%2e/pyproject.toml",
        "/client/answer.js%00.html",
        "/metrics",
        "/livez",
        "/readyz",
        "/stats",
        "/docs",
        "/.env",
    ],
)
def test_there_is_nothing_at_an_address_that_is_not_served(system: System, path: str) -> None:
    status, headers, body = verbatim(system.http_port, "GET", path)

    assert_problem(status, headers, body, expected=404, code="not_found", path=None)


@pytest.mark.parametrize("key", ["", " ", '""', "a b", "k" * 256, "ключ", "a\tb", '"a"b"'])
def test_an_idempotency_key_that_is_none_is_refused(system: System, key: str) -> None:
    body = message()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    request = head.encode() + f"Idempotency-Key: {key}\r\n\r\n".encode() + body

    status, headers, answer = raw_request(system.http_port, request)

    assert_problem(status, headers, answer, expected=400, code="invalid_header", path=None)


@pytest.fixture(scope="module")
def events_path() -> str:
    return f"/api/async/tasks/{UNKNOWN_TASK}/events"


def token(task_id: str = UNKNOWN_TASK, *, secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    good = {"sub": task_id, "aud": "events", "exp": int(time.time()) + 60}
    kept = {name: value for name, value in (good | claims).items() if value is not None}
    return jwt.encode(kept, secret if algorithm != "none" else None, algorithm=algorithm)


TOKENS = {
    "none": lambda: "",
    "a word": lambda: "token",
    "no base64": lambda: "a.b.c",
    "other characters": lambda: "é.é.é",
    "a page full": lambda: "x" * 8000,
    "another secret's": lambda: token(secret="another secret, of 32 bytes and more"),
    "expired": lambda: token(exp=int(time.time()) - 1),
    "without expiry": lambda: token(exp=None),
    "another task's": lambda: token("task_01" + "0" * 32),
    "without a task": lambda: token(sub=None),
    "for something else": lambda: token(aud="admin"),
    "for nothing": lambda: token(aud=None),
    "unsigned": lambda: token(algorithm="none"),
    "signed otherwise": lambda: token(algorithm="HS512"),
}


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
@pytest.mark.parametrize("way", ["header", "query"])
@pytest.mark.parametrize("make", TOKENS.values(), ids=TOKENS.keys())
def test_the_gateway_opens_to_no_other_token(system: System, events_path: str, make: Any, way: str) -> None:
    value = make()
    url = f"http://127.0.0.1:{system.gateway_port}{events_path}"

    if way == "header":
        response = system.http.get(url, headers={"Authorization": f"Bearer {value}".strip().encode()})
    else:
        response = system.http.get(url, params={"token": value})

    assert_refused(response, 401, "invalid_token")
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["Basic", "Token", "bearerx", ""])
def test_the_gateway_knows_no_other_scheme(system: System, events_path: str, scheme: str) -> None:
    url = f"http://127.0.0.1:{system.gateway_port}{events_path}"

    response = system.http.get(url, headers={"Authorization": f"{scheme} {token()}".strip()})

    assert_refused(response, 401, "invalid_token")


def test_the_gateway_does_not_find_an_unknown_task(system: System, events_path: str) -> None:
    url = f"http://127.0.0.1:{system.gateway_port}{events_path}"

    response = system.http.get(url, headers={"Authorization": f"Bearer {token()}"})

    assert_refused(response, 404, "task_not_found")


@pytest.mark.parametrize("task_id", BAD_TASK_IDS.values(), ids=BAD_TASK_IDS.keys())
def test_the_gateway_opens_no_task_that_is_not_there(system: System, task_id: str) -> None:
    path = f"/api/async/tasks/{task_id}/events"

    status, headers, body = verbatim(system.gateway_port, "GET", path)

    unknown = task_id == UNKNOWN_TASK  # whether it exists is told to its token only
    expected, code = (401, "invalid_token") if unknown else (404, "task_not_found")
    assert_problem(status, headers, body, expected=expected, code=code, path=None)


@pytest.mark.parametrize("path", ["/", "/api/async/tasks", "/api/async/chat", "/metrics", "/livez", "/%2e%2e/etc"])
def test_the_gateway_serves_nothing_but_events(system: System, path: str) -> None:
    status, headers, body = verbatim(system.gateway_port, "GET", path)

    assert_problem(status, headers, body, expected=404, code="not_found", path=None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
def test_the_gateway_only_takes_get(system: System, events_path: str, method: str) -> None:
    url = f"http://127.0.0.1:{system.gateway_port}{events_path}"

    response = system.http.request(method, url, headers={"Authorization": f"Bearer {token()}"})

    assert response.status_code == 405
    assert "GET" in response.headers["allow"].split(", ")
    if method != "HEAD":
        assert_refused(response, 405, "method_not_allowed")


BAD_CURSORS = [
    "x",
    "1",
    "1-",
    "-1",
    "1-2-3",
    "01-1",
    "1--1",
    "+1-1",
    "1.5-1",
    "1 - 1",
    "$",
    "*",
    "１-１",
    "9" * 40 + "-1",
]


@pytest.mark.parametrize("way", ["header", "query"])
@pytest.mark.parametrize("cursor", BAD_CURSORS)
def test_a_last_event_id_that_is_none_is_refused(system: System, events_path: str, cursor: str, way: str) -> None:
    url = f"http://127.0.0.1:{system.gateway_port}{events_path}"
    headers = {"Authorization": f"Bearer {token()}".encode()}

    if way == "header":
        response = system.http.get(url, headers=headers | {"Last-Event-ID": cursor.encode()})
    else:
        response = system.http.get(url, headers=headers, params={"last_event_id": cursor})

    assert_refused(response, 400, "invalid_last_event_id")


def verbatim(port: int, method: str, path: str) -> tuple[int, Any, bytes]:
    """A request whose path nobody has tidied up on the way."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.putrequest(method, path)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        response = connection.getresponse()
        return response.status, lower(response), response.read()
    finally:
        connection.close()


def raw_request(port: int, request: bytes) -> tuple[int, Any, bytes]:
    """Bytes as they are, and the answer to them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.connect()
        connection.send(request)
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        return response.status, lower(response), response.read()
    finally:
        connection.close()


def lower(response: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}
