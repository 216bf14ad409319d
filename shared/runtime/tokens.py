"""`events_token`: the right to read the events of one task, and nothing else.

For EventSource and for the hand-off to a gateway on another origin, where a browser cannot send `Authorization`.
It may be used again until it expires, since EventSource reconnects to the address it was given.
"""

import time
from typing import Final

import jwt

from shared.contracts.errors import EkidenError

#: One algorithm, so that a token cannot choose its own.
_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "events"

#: A secret shorter than the digest weakens it.
SECRET_MIN_BYTES: Final = 32


class InvalidToken(EkidenError):
    """A token that is none, is not for this task, or has expired."""

    code = "invalid_token"
    title = "The token does not open this task's events"


class EventsTokens:
    """Makes and checks events tokens. API and gateway share the secret."""

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < SECRET_MIN_BYTES:
            raise ValueError(f"the secret needs at least {SECRET_MIN_BYTES} bytes")
        self._secret = secret

    def issue(self, task_id: str, *, seconds: int) -> str:
        """A token for the events of `task_id`, good for `seconds`."""
        claims = {"sub": task_id, "aud": _AUDIENCE, "exp": int(time.time()) + seconds}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def check(self, token: str, task_id: str) -> None:
        """Raises InvalidToken unless `token` is good for the events of `task_id` now."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["exp", "sub", "aud"]},
            )
        except (jwt.InvalidTokenError, ValueError):
            raise InvalidToken from None
        if claims["sub"] != task_id:
            raise InvalidToken
