"""OpenAI's endpoints: the forwarded ones go to the exchange, `/v1/models` is answered from the config."""

from typing import Any, cast

from litestar import Request, asgi, get
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.types import HTTPScope, Receive, Scope, Send

from engine.openai import ENDPOINTS, Endpoint
from proxy.api.callers import Callers
from proxy.catalog import Catalog, Model
from proxy.downstream import Downstream
from proxy.edge.bodies import Bodies
from proxy.errors import MethodNotAllowed, ModelNotFound
from proxy.exchange import Exchange

_ALLOWED = "OPTIONS, POST"
_CREATED = 0
"""A model of the config has no birthday; OpenAI's clients want a number."""


def forwarded(exchange: Exchange, bodies: Bodies, *, write_s_max: float) -> list[ASGIRouteHandler]:
    """Return a handler for each path that is forwarded to replicas: these and no others."""
    return [_forward(endpoint, exchange, bodies, write_s_max) for endpoint in ENDPOINTS.values()]


def _forward(endpoint: Endpoint, exchange: Exchange, bodies: Bodies, write_s_max: float) -> ASGIRouteHandler:
    @asgi(endpoint.path, name=endpoint.name, copy_scope=False)
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        with bodies.share() as share:
            downstream = Downstream(cast("HTTPScope", scope), receive, send, share, write_s_max=write_s_max)
            if downstream.method == "OPTIONS":
                await downstream.answer(200, [("allow", _ALLOWED)], b"")
            elif downstream.method == "POST":
                await exchange(endpoint, downstream)
            else:
                raise MethodNotAllowed(_ALLOWED.split(", "))

    return serve


def models(catalog: Catalog, callers: Callers) -> list[HTTPRouteHandler]:
    """Return the handlers of `/v1/models`: what the caller's plan allows, and nothing that it does not."""

    @get("/v1/models")
    async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
        allowed = catalog.models_for(await callers.plan(request))
        return {"object": "list", "data": [_shown(name, model) for model in allowed for name in _names(model)]}

    @get("/v1/models/{name:path}")
    async def one_model(request: Request[Any, Any, Any]) -> dict[str, Any]:
        plan = await callers.plan(request)
        asked = str(request.path_params["name"]).removeprefix("/")
        model = catalog.model(asked)
        if model is None or not plan.allows(model):
            raise ModelNotFound(asked)
        return _shown(asked, model)

    return [list_models, one_model]


def _names(model: Model) -> tuple[str, ...]:
    return (model.name, *model.aliases)


def _shown(name: str, model: Model) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "tollway",
        "root": model.name,
        "max_model_len": model.context_tokens,
    }
