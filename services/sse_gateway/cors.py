"""Which pages of other origins may read streams, and what they are told."""

from urllib.parse import urlsplit

Header = tuple[bytes, bytes]

#: Headers a page may send. After a 303 the browser sends the POST's own headers along, so the POST's are here too.
_ALLOWED_HEADERS = b"authorization, idempotency-key, last-event-id"

#: Seconds a browser may remember a preflight: two hours, the most that Chromium keeps.
_PREFLIGHT_SECONDS = 7200


class Cors:
    """`allowed` are origins; where it is empty, the page's own origin is: the gateway's host, on the API's port."""

    def __init__(self, allowed: frozenset[str], page_port: int) -> None:
        self._allowed = allowed
        self._page_port = page_port

    def headers(self, origin: str, host: str) -> list[Header]:
        """Headers of any answer to a request with this Origin and Host."""
        if not origin or not self._allows(origin, host):
            return [(b"vary", b"origin")]
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-expose-headers", b"x-task-id, x-session-id"),
            (b"vary", b"origin"),
        ]

    def preflight(self, origin: str, host: str) -> list[Header]:
        """Headers of the answer to OPTIONS."""
        headers = self.headers(origin, host)
        if len(headers) > 1:
            headers += [
                (b"access-control-allow-methods", b"GET"),
                (b"access-control-allow-headers", _ALLOWED_HEADERS),
                (b"access-control-max-age", b"%d" % _PREFLIGHT_SECONDS),
            ]
        return headers

    def _allows(self, origin: str, host: str) -> bool:
        if self._allowed:
            return origin in self._allowed
        try:
            page, gateway = urlsplit(origin), urlsplit(f"//{host}")
            port = page.port or (443 if page.scheme == "https" else 80)
            return page.hostname is not None and page.hostname == gateway.hostname and port == self._page_port
        except ValueError:
            return False
