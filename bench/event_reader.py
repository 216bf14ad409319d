"""Server-sent events as the bench reads them: what was said, and when its first and its last piece came."""

import time

import msgspec

#: Events after which an answer has ended.
_ENDINGS = (b"completed", b"failed", b"cancelled")


class Said(msgspec.Struct):
    """The part of a `delta` that is read."""

    content: str


_decode = msgspec.json.Decoder(Said).decode


class EventReader:
    """Splits a body into events; keeps the deltas, and when the first and the terminal one came."""

    def __init__(self) -> None:
        self.first_at: float | None = None
        self.ended_at: float | None = None
        self.ending = ""
        self._deltas: list[bytes] = []
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """The next bytes of the body."""
        now = time.perf_counter()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            kind = payload = b""
            for line in event.split(b"\n"):
                if line.startswith(b"data: "):
                    payload = line[6:]
                elif line.startswith(b"event: "):
                    kind = line[7:]
            if kind == b"delta":
                self.first_at = self.first_at or now
                self._deltas.append(payload)
            elif kind in _ENDINGS:
                self.ended_at, self.ending = now, kind.decode()

    def text(self) -> str:
        """All deltas joined."""
        return "".join(_decode(delta).content for delta in self._deltas)
