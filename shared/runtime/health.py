"""`/livez`, `/readyz` and `/metrics` of a service, on a port of their own that never passes the edge."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

#: A named check: None where all is well, else the reason in a word.
Check = Callable[[], str | None]


def serve_ops(host: str, port: int, *, live: dict[str, Check], ready: dict[str, Check]) -> ThreadingHTTPServer:
    """Answer probes on a daemon thread until the process ends. Raises OSError where the port is taken.

    A probe answers 200, or 503 with the names of the checks that failed and why.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 5

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/livez":
                    self._probe(live)
                case "/readyz":
                    self._probe(ready)
                case "/metrics":
                    encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                    self._answer(200, content_type, encode(REGISTRY))
                case _:
                    self._answer(404, "text/plain", b"")

        def _probe(self, checks: dict[str, Check]) -> None:
            faults = {name: fault for name, check in checks.items() if (fault := check()) is not None}
            body = msgspec.json.encode({"status": "failing" if faults else "ok", "faults": faults})
            self._answer(503 if faults else 200, "application/json", body)

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Probes are not news."""

    server = _OpsServer((host, port), Handler)
    threading.Thread(target=server.serve_forever, name="ops", daemon=True).start()
    return server


class _OpsServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Somebody hung up on a probe: no news, and the stock server would print a traceback."""
