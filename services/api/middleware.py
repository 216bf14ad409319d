"""What happens around every request: its id, for the logs of all services and for the client."""

import re
import secrets
from typing import Any, Final

import falcon
import structlog

from shared.contracts.errors import InvalidInput

#: A request id from outside that is safe to log and to pass on.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


#: A Host that may stand in a Location and in the page's policy: a name or an address, and perhaps a port.
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?\Z")


class SaneHost:
    """Refuses a Host header that is none, before anything is done."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before routing."""
        if not _HOST.match(req.get_header("Host") or ""):
            raise InvalidInput("invalid_header", "The Host header is not a host.")


class RequestId:
    """Takes the client's X-Request-ID where it is sane, makes one where not, and sends it back."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Before routing."""
        given = req.get_header("X-Request-ID") or ""
        request_id = given if _REQUEST_ID.match(given) else secrets.token_hex(8)
        req.context.request_id = request_id
        structlog.contextvars.bind_contextvars(request_id=request_id)
        resp.set_header("X-Request-ID", request_id)

    def process_response(self, req: falcon.Request, resp: falcon.Response, resource: Any, req_succeeded: bool) -> None:
        """After the resource, whatever came of it."""
        structlog.contextvars.unbind_contextvars("request_id")
