"""What litellm raises becomes one of our errors, with the provider's wish and without its words."""

import httpx
import pytest
from litellm import exceptions as litellm_errors

from shared.contracts.errors import problem_of
from shared.providers.litellm_errors import translate

WORDS = "sk-secret-key was refused by internal-host"


def response(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=httpx.Request("POST", "http://provider"))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (litellm_errors.AuthenticationError(WORDS, "p", "m"), "provider_refused_key"),
        (litellm_errors.RateLimitError(WORDS, "p", "m"), "provider_over_quota"),
        (litellm_errors.ContextWindowExceededError(WORDS, "m", "p"), "context_too_long"),
        (litellm_errors.ContentPolicyViolationError(WORDS, "m", "p"), "content_refused"),
        (litellm_errors.BadRequestError(WORDS, "m", "p"), "provider_refused_request"),
        (litellm_errors.NotFoundError(WORDS, "m", "p"), "model_not_found"),
        (litellm_errors.Timeout(WORDS, "m", "p"), "provider_silent"),
        (litellm_errors.InternalServerError(WORDS, "p", "m"), "provider_unavailable"),
        (litellm_errors.ServiceUnavailableError(WORDS, "p", "m"), "provider_unavailable"),
        (litellm_errors.APIConnectionError(WORDS, "p", "m"), "provider_unavailable"),
        (RuntimeError(WORDS), "provider_unavailable"),
    ],
)
def test_each_error_has_its_code_and_none_of_the_providers_words(error: Exception, code: str) -> None:
    translated = translate(error, began=False)

    assert translated.code == code
    assert "secret" not in repr(problem_of(translated))


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7.0), ("0", 0.0), ("-1", None), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("1e9", 3600.0)],
)
def test_a_retry_after_in_seconds_is_passed_on(header: str, seconds: float | None) -> None:
    error = litellm_errors.RateLimitError(WORDS, "p", "m", response=response(429, **{"retry-after": header}))

    assert translate(error, began=False).retry_after_seconds == seconds


def test_a_lost_connection_amid_an_answer_has_cut_it() -> None:
    lost = litellm_errors.APIConnectionError(WORDS, "p", "m")
    wrapped = litellm_errors.MidStreamFallbackError(WORDS, "m", "p", original_exception=lost)

    assert translate(wrapped, began=True).code == "provider_cut"
    assert translate(wrapped, began=False).code == "provider_unavailable"


def test_a_refusal_amid_an_answer_stays_a_refusal() -> None:
    refused = litellm_errors.ContentPolicyViolationError(WORDS, "m", "p")
    wrapped = litellm_errors.MidStreamFallbackError(WORDS, "m", "p", original_exception=refused)

    assert translate(wrapped, began=True).code == "content_refused"
