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


def chained(answer: httpx.Response, raised: Exception) -> Exception:
    """What litellm raises, with the provider's own answer as its first cause."""
    try:
        try:
            answer.raise_for_status()
        except httpx.HTTPStatusError as error:
            raise raised from error
    except Exception as error:  # noqa: BLE001 - to have it with its causes
        return error
    raise AssertionError("the answer is no error")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "provider_refused_key"),
        (413, "context_too_long"),
        (429, "provider_over_quota"),
        (503, "provider_unavailable"),
    ],
)
def test_the_providers_own_status_comes_before_what_litellm_makes_of_it(status: int, code: str) -> None:
    error = chained(response(status), litellm_errors.BadRequestError("litellm read a 403 in it", "m", "p"))

    assert translate(error, began=False).code == code


def test_the_providers_own_header_outlives_litellm() -> None:
    error = chained(response(429, **{"retry-after": "7"}), litellm_errors.RateLimitError(WORDS, "p", "m"))

    assert translate(error, began=False).retry_after_seconds == 7.0


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"error": {"details": [{"@type": "QuotaFailure"}, {"@type": "RetryInfo", "retryDelay": "34.07s"}]}}, 34.07),
        ([{"error": {"details": [{"retryDelay": "5s"}]}}], 5.0),
        ({"error": {"details": [{"retryDelay": "soon"}]}}, None),
        ({"error": {"details": None}}, None),
        ({"error": "no"}, None),
        ([], None),
    ],
)
def test_googles_wish_to_wait_is_read_from_the_body(body: object, seconds: float | None) -> None:
    answer = httpx.Response(429, json=body, request=httpx.Request("POST", "http://provider"))

    error = chained(answer, litellm_errors.RateLimitError(WORDS, "p", "m"))

    assert translate(error, began=False).retry_after_seconds == seconds


def test_a_timeout_amid_an_answer_is_silence_whatever_litellm_calls_it() -> None:
    lost = litellm_errors.APIConnectionError(WORDS, "p", "m")
    lost.__cause__ = httpx.ReadTimeout(WORDS)

    assert translate(lost, began=True).code == "provider_silent"


def test_an_error_that_leads_to_itself_is_translated_all_the_same() -> None:
    one, other = RuntimeError(WORDS), RuntimeError(WORDS)
    one.__cause__, other.__cause__ = other, one

    assert translate(one, began=False).code == "provider_unavailable"
