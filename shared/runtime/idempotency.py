"""Idempotency keys: a request sent twice under one key makes one task."""

import hashlib
from typing import Any

import msgspec
import redis

from shared.contracts import keys
from shared.contracts.errors import InvalidInput
from shared.runtime.store import store_errors

#: A key is remembered this long; a retry after a day is a new request.
KEY_TTL_SECONDS = 24 * 3600


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    """What a key stands for: the ids chosen when it was first seen, and a digest of that request."""

    task_id: str
    session_id: str
    request_sha256: str


class IdempotencyKeys:
    """The keys in the store. Every method raises StoreUnavailable when the store cannot serve."""

    def __init__(self, client: redis.Redis) -> None:
        self._client: Any = client

    def resolve(self, owner: str, key: str, *, request: bytes, task_id: str, session_id: str) -> tuple[Mapping, bool]:
        """What `key` stands for, and whether that was so before. The ids given are used where it was not.

        A crash after this call leaves a mapping to a task that does not exist; the retry makes it under the same id.
        Raises InvalidInput when the key was used for another request.
        """
        mapping = Mapping(task_id=task_id, session_id=session_id, request_sha256=hashlib.sha256(request).hexdigest())
        with store_errors():
            known = self._client.set(
                keys.idempotency(owner, key), msgspec.json.encode(mapping), nx=True, get=True, ex=KEY_TTL_SECONDS
            )
        if known is None:
            return mapping, False
        earlier = msgspec.json.decode(known, type=Mapping)
        if earlier.request_sha256 != mapping.request_sha256:
            raise InvalidInput("idempotency_key_reused", "This Idempotency-Key was used for another request.")
        return earlier, True
