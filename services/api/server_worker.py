"""gunicorn's threaded worker, with three things changed.

1. A client that sends half a request and stops holds a thread for ten seconds, not for ever.
2. Before a connection is closed, what its client still sends is taken by the thread that served it. gunicorn does that
   in its one main thread, where forty such clients stop everybody for a minute.
3. What is not even HTTP is answered by a problem like any other, where gunicorn sends a page that repeats what it got.
"""

import contextlib
import http
import socket
import struct
import time
from typing import Any

import msgspec
import structlog
from gunicorn.http.errors import (
    ExpectationFailed,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
    UnsupportedTransferCoding,
)
from gunicorn.workers.gthread import ThreadWorker

from shared.contracts.errors import Problem, problem_type

#: Seconds that a client may leave a request half sent.
RECEIVE_SECONDS = 10

#: Seconds that a client has to close its side, once we have closed ours.
LINGER_SECONDS = 1.0

_log = structlog.get_logger()


class ProblemWorker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's threaded worker, made patient with nobody."""

    def init_process(self) -> None:
        """Called by gunicorn in the worker process. Accepted sockets inherit the time limit of their listener."""
        limit = struct.pack("ll", RECEIVE_SECONDS, 0)
        for listener in self.sockets:
            listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        super().init_process()

    def handle(self, conn: Any) -> Any:
        """Called by gunicorn in a thread of the pool, for each request."""
        keep = super().handle(conn)
        if keep is False:
            _linger(conn.sock)
        return keep

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Called by gunicorn for a request that never reached the app."""
        status = _status_of(exc)
        reason = http.HTTPStatus(status).phrase
        _log.warning("request_refused", status=status, exc_info=exc)
        problem = Problem(type=problem_type("bad_request"), title=reason, code="bad_request", status=status)
        body = msgspec.json.encode(problem)
        head = (
            f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\n"
            f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            client.sendall(head.encode() + body)


def _linger(sock: socket.socket) -> None:
    """Say that nothing more will come, and wait for the client to close. gunicorn's own close then has no wait."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            sock.settimeout(left)
            if not sock.recv(65536):
                break
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)


def _status_of(error: BaseException) -> int:
    match error:
        case LimitRequestLine():
            return 414
        case LimitRequestHeaders():
            return 431
        case ExpectationFailed():
            return 417
        case UnsupportedTransferCoding():
            return 501
        case ParseException():
            return 400
        case OSError():
            return 408
        case _:
            return 500
