"""The ledger's scripts: loading them, and calling them so that SCRIPT FLUSH does no harm.

Each script is atomic and stays within one bucket (or one session), so it runs on a Redis Cluster as it is. What
several scripts need stands in `_prelude.lua`, which goes in front of each of them.
"""

import hashlib
from collections.abc import Sequence
from importlib import resources
from typing import Any, Final

from redis.exceptions import NoScriptError

from shared.runtime.pipelined import PipelinedClient

Argument = str | bytes | int


class Script:
    """One Lua script with its digest. Calls send the digest, and the text only where it is not known yet."""

    def __init__(self, name: str) -> None:
        here = resources.files(__name__)
        self.name = name
        self.text = here.joinpath("_prelude.lua").read_text() + here.joinpath(f"{name}.lua").read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """The EVALSHA command, for a pipeline. Its reply may be NoScriptError: then send `command_with_text`."""
        return ("EVALSHA", self.sha, len(keys), *keys, *args)

    def command_with_text(self, keys: Sequence[str], args: Sequence[Argument]) -> tuple[Argument, ...]:
        """The EVAL command, which a store that has forgotten its scripts understands too, and remembers."""
        return ("EVAL", self.text, len(keys), *keys, *args)

    def call(self, client: Any, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run the script and return its reply."""
        try:
            return client.execute_command(*self.command(keys, args))
        except NoScriptError:
            return client.execute_command(*self.command_with_text(keys, args))

    async def call_async(self, client: PipelinedClient, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run the script and return its reply."""
        try:
            return await client.execute(*self.command(keys, args))
        except NoScriptError:
            return await client.execute(*self.command_with_text(keys, args))


CREATE: Final = Script("create")
CLAIM: Final = Script("claim")
APPEND: Final = Script("append")
CANCEL: Final = Script("cancel")
RENEW: Final = Script("renew")
SWEEP: Final = Script("sweep")
BEGIN_TURN: Final = Script("begin_turn")
ENQUEUE: Final = Script("enqueue")
