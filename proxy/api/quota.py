"""`GET /v1/quota`: the caller's own limits, what is used of them, when they are there again, and what tokens cost."""

import time
from dataclasses import asdict
from typing import Any

from litestar import Request, get
from litestar.handlers import HTTPRouteHandler

from proxy.api.callers import Callers
from proxy.catalog import Catalog, Model, Plan
from proxy.errors import ModelNotFound
from proxy.identity.principal import Principal
from proxy.store.quotas import limit_lines
from proxy.store.reservations import Reservations


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
    lines = await limit_lines(
        store.statuses,
        store.suspects,
        plan.limits,
        tenant=principal.tenant,
        user=principal.user,
        models=[model.name for model in models],
    )
    now_us = time.time_ns() // 1_000
    return [line.as_dict(now_us) for line in lines]
