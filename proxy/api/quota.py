"""`GET /v1/quota`: the caller's own limits, what is used of them, when they are there again, and what tokens cost."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from policies.quota import LimitStatus, Scope, Subject
from proxy.api.callers import Callers
from proxy.catalog import Catalog, Model, Plan
from proxy.errors import ModelNotFound
from proxy.identity.principal import Principal
from proxy.store.reservations import Reservations

_OF_A_MODEL = (Scope.MODEL, Scope.USER_MODEL)


def quota(callers: Callers, store: Reservations) -> list[HTTPRouteHandler]:
    """Return the handler of `GET /v1/quota`, which takes an optional `model`."""

    @get("/v1/quota")
    async def show(request: Request[Any, Any, Any]) -> dict[str, Any]:
        caller = await callers.caller(request)
        principal, plan, catalog = caller.principal, caller.plan, caller.config.catalog
        models = _chosen(catalog, plan, request.query_params.get("model"))
        return {
            "object": "quota",
            "tenant": principal.tenant,
            "user": principal.user,
            "plan": plan.name,
            "lane": plan.lane,
            "limits": await _limits(store, principal, plan, models),
            "prices": [
                {"model": each.name, **asdict(price)} for each in models if (price := catalog.price(each)) is not None
            ],
        }

    return [show]


def _chosen(catalog: Catalog, plan: Plan, name: str | None) -> tuple[Model, ...]:
    allowed = catalog.models_for(plan)
    if name is None:
        return allowed
    model = catalog.model(name)
    if model not in allowed:
        raise ModelNotFound(name)
    return (model,)


async def _limits(
    store: Reservations, principal: Principal, plan: Plan, models: tuple[Model, ...]
) -> list[dict[str, Any]]:
    """Return the limits of the caller once, and those of a model once for each model."""
    everywhere = tuple(limit for limit in plan.limits if limit.scope not in _OF_A_MODEL)
    of_models = tuple(limit for limit in plan.limits if limit.scope in _OF_A_MODEL)
    subject = Subject(tenant=principal.tenant, user=principal.user, model="")
    shown = [_shown(status, None) for status in await store.statuses(subject, everywhere)]
    for model in models if of_models else ():
        subject = Subject(tenant=principal.tenant, user=principal.user, model=model.name)
        shown += [_shown(status, model.name) for status in await store.statuses(subject, of_models)]
    return shown


def _shown(status: LimitStatus, model: str | None) -> dict[str, Any]:
    limit = status.limit
    # Rounded up: who comes back at that instant finds the limit reset.
    resets_at_s = -(-(time.time_ns() // 1_000 + status.reset_after_us) // 1_000_000)
    return {
        "name": limit.name,
        "scope": limit.scope,
        "unit": limit.unit,
        "per": limit.per,
        "model": model,
        "limit": limit.amount,
        "used": status.used,
        "remaining": status.remaining,
        "reset_after_s": status.reset_after_us / 1_000_000,
        "resets_at": datetime.fromtimestamp(resets_at_s, UTC).isoformat(),
    }
