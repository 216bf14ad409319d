"""GET /tasks/{id}/events: the stream. Plain ASGI, since every byte of it is ours."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qs

import structlog

from services.sse_gateway.cors import Cors
from services.sse_gateway.log_reader import LogReader, TaskState
from services.sse_gateway.problems import Header, empty, problem
from services.sse_gateway.relay import Relay
from services.sse_gateway.settings import Settings
from services.sse_gateway.stream import TaskStream, opening
from shared.contracts.errors import StoreUnavailable
from shared.contracts.ids import BEFORE_FIRST, is_entry_id, is_task_id
from shared.runtime.tokens import EventsTokens, InvalidToken

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_PATH: Final = re.compile(r"/api/async/tasks/(?P<task_id>[^/]+)/events\Z")

_STREAM_HEADERS: Final[list[Header]] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]

_log = structlog.get_logger()


class Refused(Exception):
    """The request gets an answer that is no stream: (status, headers, body)."""

    def __init__(self, answer: tuple[int, list[Header], bytes]) -> None:
        super().__init__(answer[0])
        self.answer = answer


class Events:
    """Answers one request at a time per call. 4xx only for what is permanent: a browser never comes back after one."""

    def __init__(
        self, *, reader: LogReader, relay: Relay, tokens: EventsTokens, cors: Cors, settings: Settings
    ) -> None:
        self._reader = reader
        self._relay = relay
        self._tokens = tokens
        self._cors = cors
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: one HTTP request."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        origin, host = headers.get(b"origin", ""), headers.get(b"host", "")
        try:
            task_id = self._task_id(scope)
            if scope["method"] == "OPTIONS":
                await _answer(send, *empty(204, self._cors.preflight(origin, host)))
                return
            query = parse_qs(scope["query_string"].decode("latin-1"))
            self._check_token(task_id, headers, query)
            cursor = _cursor(headers, query)
            state = await self._state(task_id, cursor)
        except Refused as refused:
            status, answer_headers, body = refused.answer
            await _answer(send, status, answer_headers + self._cors.headers(origin, host), body)
            return
        except StoreUnavailable as error:
            _log.warning("store_unavailable", exc_info=error.__cause__)
            await _answer(send, 200, _STREAM_HEADERS + self._cors.headers(origin, host), opening())
            return
        named = [(b"x-task-id", task_id.encode()), (b"x-session-id", state.session_id.encode())]
        start = {"status": 200, "headers": _STREAM_HEADERS + named + self._cors.headers(origin, host)}
        await send({"type": "http.response.start", **start})
        if self._relay.draining:
            await send({"type": "http.response.body", "body": opening()})
            return
        await self._stream(task_id, cursor, scope, receive, send)

    async def _stream(self, task_id: str, cursor: str, scope: Scope, receive: Receive, send: Send) -> None:
        task_stream = TaskStream(
            task_id,
            cursor,
            reader=self._reader,
            max_bytes=self._settings.subscriber_buffer_bytes,
        )
        stream = self._relay.attach(task_id, task_stream.subscriber, abort=scope["state"]["abort"])
        watcher = asyncio.create_task(_watch(receive, task_stream))
        loop = asyncio.get_running_loop()

        async def write(data: bytes) -> None:
            stream.writing_since = loop.time()
            await send({"type": "http.response.body", "body": data, "more_body": True})
            stream.writing_since = None

        try:
            await write(opening())
            await task_stream.run(write)
            await send({"type": "http.response.body", "body": b""})
        finally:
            watcher.cancel()
            self._relay.detach(task_id, stream)

    def _task_id(self, scope: Scope) -> str:
        match = _PATH.match(scope["path"])
        if match is None or not is_task_id(match["task_id"]):
            raise Refused(problem(404, "task_not_found" if match else "not_found", "There is no such thing"))
        if scope["method"] not in ("GET", "OPTIONS"):
            status, headers, body = problem(405, "method_not_allowed", "This address only takes GET")
            raise Refused((status, [*headers, (b"allow", b"GET, OPTIONS")], body))
        return match["task_id"]

    def _check_token(self, task_id: str, headers: dict[bytes, str], query: dict[str, list[str]]) -> None:
        scheme, _, bearer = headers.get(b"authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else query.get("token", [""])[0]
        try:
            self._tokens.check(token, task_id)
        except InvalidToken as error:
            status, answer_headers, body = problem(401, error.code, error.title)
            raise Refused((status, [*answer_headers, (b"www-authenticate", b"Bearer")], body)) from None

    async def _state(self, task_id: str, cursor: str) -> TaskState:
        state = await self._reader.state(task_id)
        if state is None:
            raise Refused(problem(404, "task_not_found", "There is no such thing"))
        if state.end_frame and cursor == state.last_id:
            raise Refused(empty(204))
        return state


async def _watch(receive: Receive, task_stream: TaskStream) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    task_stream.subscriber.leave()


async def _answer(send: Send, status: int, headers: list[Header], body: bytes) -> None:
    if status != 204 and not any(name == b"content-type" and b"event-stream" in value for name, value in headers):
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _cursor(headers: dict[bytes, str], query: dict[str, list[str]]) -> str:
    cursor = headers.get(b"last-event-id") or query.get("last_event_id", [""])[0]
    if not cursor:
        return BEFORE_FIRST
    if not is_entry_id(cursor):
        raise Refused(problem(400, "invalid_last_event_id", "Last-Event-ID is no id of an event"))
    return cursor
