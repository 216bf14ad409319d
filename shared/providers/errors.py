"""What can go wrong with a provider, in words a client may read.

ProviderError
├── ProviderRefusedKey        401, 403: the key is missing, wrong, or may not use the model
├── ProviderOverQuota         429: too many requests or tokens, or no credit
├── ProviderRefusedRequest    400, 422: the provider will not answer this
│   ├── ContextTooLong        the conversation does not fit into the model
│   └── ContentRefused        the provider's content policy
├── ModelNotFound             404: the provider does not know the model
├── ProviderUnavailable       5xx, refused or lost connections
├── ProviderSilent            nothing came for longer than the limit
└── ProviderCut               the stream broke off, or ended without saying so
"""

from shared.contracts.errors import ProviderError


class ProviderRefusedKey(ProviderError):
    """The operator must look at the key."""

    code = "provider_refused_key"
    detail = "The model's provider did not accept the key that is set for it."


class ProviderOverQuota(ProviderError):
    """The provider wants fewer requests."""

    code = "provider_over_quota"
    retryable = True
    detail = "The model's provider is answering too many requests right now."


class ProviderRefusedRequest(ProviderError):
    """The same request will be refused again."""

    code = "provider_refused_request"
    detail = "The model's provider refused this request."


class ContextTooLong(ProviderRefusedRequest):
    """A shorter conversation would do."""

    code = "context_too_long"
    detail = "The conversation is longer than the model can read."


class ContentRefused(ProviderRefusedRequest):
    """The provider's policy, not ours."""

    code = "content_refused"
    detail = "The model's provider refused the content of this conversation."


class ModelNotFound(ProviderError):
    """The model's name passed our list, but the provider has no such model."""

    code = "model_not_found"
    detail = "The model's provider does not know this model."


class ProviderUnavailable(ProviderError):
    """Trying again may help."""

    code = "provider_unavailable"
    retryable = True
    detail = "The model's provider could not be reached, or failed."


class ProviderSilent(ProviderError):
    """The model went silent before or amid its answer."""

    code = "provider_silent"
    retryable = True
    detail = "The model said nothing for too long."


class ProviderCut(ProviderError):
    """What came so far is kept as the partial text."""

    code = "provider_cut"
    retryable = True
    detail = "The model's answer broke off before its end."
