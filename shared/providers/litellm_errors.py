"""Translates what litellm raises, and what the libraries below it raise, into our errors.

Deliberate: the provider's own HTTP answer comes before litellm's reading of it. litellm guesses from the words of an
error (a "403" anywhere in a text of Gemini's is a bad request to it), rewrites statuses and drops headers; the
answer itself still hangs in the chain of exceptions.
"""

from collections.abc import Iterator

import httpx
import litellm
from litellm import exceptions as litellm_errors

from shared.contracts.errors import ProviderError
from shared.providers import errors

#: What the class says is more than the status does: litellm knows many providers' words for these.
_BY_CLASS: tuple[tuple[type[Exception], type[ProviderError]], ...] = (
    (litellm_errors.ContextWindowExceededError, errors.ContextTooLong),
    (litellm_errors.ContentPolicyViolationError, errors.ContentRefused),
    (litellm_errors.AuthenticationError, errors.ProviderRefusedKey),
)

_SILENCE = (litellm_errors.Timeout, httpx.TimeoutException)

#: What is not here is the provider's own trouble.
_BY_STATUS: dict[int, type[ProviderError]] = {
    400: errors.ProviderRefusedRequest,
    401: errors.ProviderRefusedKey,
    402: errors.ProviderOverQuota,
    403: errors.ProviderRefusedKey,
    404: errors.ModelNotFound,
    413: errors.ContextTooLong,
    422: errors.ProviderRefusedRequest,
    429: errors.ProviderOverQuota,
}

#: A Retry-After beyond this is passed on as this: nobody waits longer for a chat.
_MAX_RETRY_AFTER_SECONDS = 3600.0


def translate(error: Exception, *, began: bool) -> ProviderError:
    """What a client may know of an error. `began`: some of the answer had come."""
    translated = _translate(list(_chain(error)))
    return errors.ProviderCut() if began and isinstance(translated, errors.ProviderUnavailable) else translated


def is_want_of_a_key(error: Exception, model: str) -> bool:
    """Whether a call failed before anything was sent, for a model whose key is not set."""
    if any(isinstance(link, httpx.HTTPError) for link in _chain(error)):
        return False
    return bool(litellm.validate_environment(model)["missing_keys"])


def _translate(chain: list[BaseException]) -> ProviderError:
    for theirs, ours in _BY_CLASS:
        if any(isinstance(link, theirs) for link in chain):
            return ours()
    answers = [link.response for link in chain if isinstance(link, httpx.HTTPStatusError)]
    if not answers and any(isinstance(link, _SILENCE) for link in chain):
        return errors.ProviderSilent()
    status = answers[-1].status_code if answers else _status(chain)
    return _BY_STATUS.get(status or 0, errors.ProviderUnavailable)(retry_after_seconds=_retry_after(chain))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that led to it, the first cause last."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = getattr(error, "original_exception", None) or error.__cause__ or error.__context__


def _status(chain: list[BaseException]) -> int | None:
    """litellm's idea of the status, where no answer is at hand: an error amid a stream has only this."""
    statuses = [getattr(link, "status_code", None) for link in chain]
    return next((status for status in statuses if isinstance(status, int)), None)


def _retry_after(chain: list[BaseException]) -> float | None:
    """How long the provider wants us to wait: from the header, else from Google's `RetryInfo` in the body."""
    responses = [response for link in chain if isinstance(response := getattr(link, "response", None), httpx.Response)]
    wishes = [response.headers.get("retry-after") for response in responses]
    wishes += [_retry_info(response) for response in responses]
    return next((seconds for wish in wishes if (seconds := _seconds(wish)) is not None), None)


def _retry_info(response: httpx.Response) -> str | None:
    """`"retryDelay": "34.07s"` without its unit, see google.rpc.RetryInfo."""
    try:
        body = response.json()
        details = (body[0] if isinstance(body, list) else body)["error"]["details"]
        [delay] = [detail["retryDelay"] for detail in details if "retryDelay" in detail]
        return str(delay).removesuffix("s")
    except (httpx.StreamError, ValueError, LookupError, TypeError):
        return None


def _seconds(wish: str | None) -> float | None:
    try:
        seconds = float(wish or "")
    except ValueError:
        return None
    return min(seconds, _MAX_RETRY_AFTER_SECONDS) if seconds >= 0 else None
