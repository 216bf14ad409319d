"""Who is asking. Every task and session has an owner; for now there is one."""

from typing import Final

import falcon

#: The owner of everything where nobody is told apart.
LOCAL_OWNER: Final = "local"


def owner_of(req: falcon.Request) -> str:
    """The owner on whose behalf a request is made."""
    return LOCAL_OWNER
