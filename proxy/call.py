"""A request understood: who asks which model for how much, under which plan. Frozen once it is read."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from engine.faults import MalformedRequest
from engine.protocols import media
from engine.protocols.base import ApiProtocol, ParsedRequest
from engine.protocols.fields import left_out
from policies.estimate import prompt_bound
from policies.pricing import Price
from policies.quota import Ask
from proxy.catalog import Catalog, Model, Plan
from proxy.errors import ApiError, Code, InvalidRequest, ModelNotFound
from proxy.identity.principal import Principal
from proxy.settings.sections import Bounds

SALTS_MAX = 16_384
"""Remembered, each of some 300 bytes: one takes longer to make than a request to parse."""
_NAMED_MAX = 16
"""Fields that one answer names."""
_NAMED = re.compile(r"[A-Za-z0-9_.-]{1,64}")
"""What of a client's own words a header repeats."""


class Call(NamedTuple):
    """What every later stage needs to know of a request."""

    principal: Principal
    plan: Plan
    model: Model
    price: Price | None
    request: ParsedRequest
    bounds: Bounds
    """How long anything may take, and how often it is tried."""
    ignored: tuple[str, ...] = ()
    """Fields of the body that do not go on."""
    answer_bytes: int = 0
    """How large an answer in one piece can get; 0 for a stream."""

    def ask(self, hold_us: int) -> Ask:
        """Return what to reserve; `hold_us` is how long a request to this model is expected to take."""
        model, request = self.model, self.request
        prompt = request.prompt
        prompt_tokens = prompt_bound(
            text_bytes=prompt.text_bytes,
            token_ids=prompt.token_ids + self._media_tokens if prompt.media else prompt.token_ids,
            prompts=prompt.count,
            template_tokens=model.template_tokens,
            context_tokens=model.context_tokens,
        )
        if not request.protocol.generates:
            return Ask(prompt_tokens, request.choices, 0, 0, hold_us)
        max_completion = _max_completion(request, model)
        min_completion = min(max_completion, model.min_completion)
        return Ask(prompt_tokens, request.choices, max_completion, min_completion, hold_us)

    @property
    def _media_tokens(self) -> int:
        allowed = self.model.media
        return len(self.request.prompt.media) * allowed.tokens_max if allowed else 0

    def cache_salt(self, secret: bytes) -> str:
        """Return the salt that keeps this caller's prefix cache apart from everybody's outside its cache scope."""
        scope: tuple[str, ...]
        match self.model.cache_scope:
            case "user":
                scope = ("user", self.principal.tenant, self.principal.user)
            case "tenant":
                scope = ("tenant", self.principal.tenant)
            case group:
                scope = ("group", group)
        return _salt(secret, *scope)


@lru_cache(maxsize=SALTS_MAX)
def _salt(secret: bytes, *scope: str) -> str:
    return hmac.new(secret, "\0".join(scope).encode(), hashlib.sha256).hexdigest()


def understand(protocol: ApiProtocol, body: bytes, principal: Principal, *, catalog: Catalog, bounds: Bounds) -> Call:
    """Return what the request asks for; raise `ApiError` where it may not or cannot be answered."""
    try:
        request = protocol.parse(body, bounds.maxima)
    except MalformedRequest as error:
        raise InvalidRequest(error.message, error.param) from None
    plan = catalog.plan(principal.tenant, principal.plan)
    assert plan is not None, "a principal's plan was looked up in this catalog"
    model = catalog.model(request.model)
    if model is None:
        raise ModelNotFound(request.model)
    if not plan.allows(model):
        message = f"The plan `{plan.name}` does not include the model `{model.name}`."
        raise ApiError(Code.MODEL_NOT_ALLOWED, message, param="model")
    if protocol.name not in model.endpoints:
        message = f"The model `{model.name}` does not serve {protocol.path}."
        raise InvalidRequest(message, "model")
    ignored = _ignored(request, model)
    _check_context(request, model)
    _check_media(request, model)
    answer_bytes = _answer_bytes(request, model)
    return Call(principal, plan, model, catalog.price(model), request, bounds, ignored, answer_bytes)


def named(fields: Iterable[str]) -> str:
    """Return the names of fields as an answer repeats them: the first few that are names."""
    return ", ".join(islice(filter(_NAMED.fullmatch, fields), _NAMED_MAX))


def _ignored(request: ParsedRequest, model: Model) -> tuple[str, ...]:
    """Return which fields do not go on; raise `InvalidRequest` where the operator lets nothing be left out."""
    ignored = left_out(request.fields, request.protocol.fields, model.extra_fields)
    if ignored and model.unknown_fields == "refuse":
        names = named(ignored)
        raise InvalidRequest(f"The body holds fields that are not taken: {names or 'of odd names'}.", ignored[0][:64])
    return ignored


def _check_media(request: ParsedRequest, model: Model) -> None:
    """Pass what the model may be shown; its URLs go on as they were checked."""
    items = request.prompt.media
    if not items:
        return
    allowed = model.media
    if allowed is None:
        raise InvalidRequest(f"The model `{model.name}` takes only text in the content of a message.", "messages")
    if len(items) > allowed.items_max:
        raise InvalidRequest(f"The messages hold more than {allowed.items_max} media parts.", "messages")
    for item in items:
        if "url" in item:
            try:
                item["url"] = media.checked(item["url"], allowed.domains)
            except MalformedRequest as error:
                raise InvalidRequest(error.message, error.param) from None


def _max_completion(request: ParsedRequest, model: Model) -> int:
    """Return how many tokens each choice is to have at most."""
    if request.max_completion is not None:
        return request.max_completion
    return min(request.protocol.default_completion or model.default_completion, model.context_tokens)


def _answer_bytes(request: ParsedRequest, model: Model) -> int:
    """Return how large the answer can get; raise `InvalidRequest` where that is too large to be read."""
    try:
        return request.protocol.check_answer(
            request,
            max_completion=_max_completion(request, model),
            context_tokens=model.context_tokens,
            extra_fields=model.extra_fields,
        )
    except MalformedRequest as error:
        raise InvalidRequest(error.message, error.param) from None


def _check_context(request: ParsedRequest, model: Model) -> None:
    context = model.context_tokens
    if request.max_completion is not None and request.max_completion > context:
        message = f"{request.max_completion} completion tokens are asked for; the model's context holds {context}."
        raise ApiError(Code.CONTEXT_LENGTH_EXCEEDED, message, param=request.limit_field)
    longest = request.prompt.longest_ids
    if longest > context:
        message = f"A prompt has {longest} tokens; the model's context holds {context}."
        raise ApiError(Code.CONTEXT_LENGTH_EXCEEDED, message, param=request.protocol.prompt_field)
