"""GET /models: what clients may ask for."""

import falcon

from services.api.schemas import ModelsView, write_body


class Models:
    """The operator's list, as it is set."""

    def __init__(self, *, default: str, patterns: list[str]) -> None:
        self._view = ModelsView(default=default, models=patterns)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """The list and the default."""
        write_body(resp, self._view)
