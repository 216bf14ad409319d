"""The chat page and the client it uses: a few files, read once, served with a strict policy."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import falcon

from services.api.settings import Settings
from services.api.urls import gateway_origin

#: web/ beside services/.
WEB: Final = Path(__file__).resolve().parents[3] / "web"

_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    etag: falcon.ETag


class PageFile:
    """One static file."""

    def __init__(self, path: Path, settings: Settings) -> None:
        content = path.read_bytes()
        etag = falcon.ETag(hashlib.sha256(content).hexdigest()[:32])
        self._file = _File(content, _TYPES[path.suffix], etag)
        self._settings = settings

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The file, or 304."""
        resp.etag = self._file.etag
        resp.set_header("Cache-Control", "no-cache")
        resp.set_header("X-Content-Type-Options", "nosniff")
        resp.set_header("Referrer-Policy", "no-referrer")
        resp.set_header("Content-Security-Policy", self._policy(req))
        if any(tag == "*" or tag == self._file.etag for tag in req.if_none_match or []):
            resp.status = falcon.HTTP_304
            return
        resp.content_type = self._file.content_type
        resp.data = self._file.content

    def _policy(self, req: falcon.Request) -> str:
        gateway = "" if self._settings.handoff == "accel" else f" {gateway_origin(req, self._settings)}"
        return (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            f"connect-src 'self'{gateway}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )


def add_page(app: falcon.App, settings: Settings) -> None:  # type: ignore[type-arg]
    """Route `/` and the files beside it, and the client under `/client`."""
    for folder, prefix in ((WEB / "page", ""), (WEB / "client", "/client")):
        for path in sorted(folder.iterdir()):
            if path.suffix in _TYPES and not path.name.endswith(".test.js"):
                route = f"{prefix}/" if path.name == "index.html" else f"{prefix}/{path.name}"
                app.add_route(route, PageFile(path, settings))
