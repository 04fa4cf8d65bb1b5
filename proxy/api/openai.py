"""OpenAI's endpoints: the forwarded ones go to the exchange, `/v1/models` is answered from the config."""

from collections.abc import Callable, Coroutine
from typing import Any, cast

from litestar import Request, asgi, get
from litestar.handlers import ASGIRouteHandler, HTTPRouteHandler
from litestar.response.base import ASGIResponse
from litestar.types import HTTPScope, Receive, Scope, Send

from engine.protocols.base import ApiProtocol
from engine.protocols.registry import PROTOCOLS
from proxy.api.callers import Callers
from proxy.api.cors import Pages
from proxy.catalog import Model
from proxy.edge.bodies import Bodies
from proxy.errors import MethodNotAllowed, ModelNotFound
from proxy.exchange import Exchange
from proxy.http.downstream import Client, Downstream

_ALLOWED = "OPTIONS, POST"
_CREATED = 0
"""A model of the config has no birthday; OpenAI's clients want a number."""


def forwarded(
    exchange: Exchange, bodies: Bodies, pages: Pages
) -> dict[bytes, Callable[[Client], Coroutine[Any, Any, None]]]:
    """Return who serves a POST to each path that is forwarded to replicas, a slash behind it or not; and no others."""

    def serving(protocol: ApiProtocol) -> Callable[[Client], Coroutine[Any, Any, None]]:
        async def serve(client: Client) -> None:
            bounds = exchange.in_force.now.bounds
            with bodies.share(bounds.bodies_bytes_max, bounds.bodies_parts) as share:
                always = pages.headers(client.fields.get(b"origin"))
                await exchange(protocol, Downstream(client, share, always, write_s_max=bounds.write_s_max))

        return serve

    serve = {protocol.path: serving(protocol) for protocol in PROTOCOLS.values()}
    return {f"{path}{slash}".encode(): each for path, each in serve.items() for slash in ("", "/")}


def not_forwarded() -> ASGIRouteHandler:
    """Return the handler of the same paths for every other method."""

    @asgi([protocol.path for protocol in PROTOCOLS.values()], copy_scope=False)
    async def tell(scope: Scope, receive: Receive, send: Send) -> None:
        if cast("HTTPScope", scope)["method"] != "OPTIONS":
            raise MethodNotAllowed(_ALLOWED.split(", "))
        await ASGIResponse(headers={"allow": _ALLOWED})(scope, receive, send)

    return tell


def models(callers: Callers) -> list[HTTPRouteHandler]:
    """Return the handlers of `/v1/models`: what the caller's plan allows, and nothing that it does not."""

    @get("/v1/models")
    async def list_models(request: Request[Any, Any, Any]) -> dict[str, Any]:
        caller = await callers.caller(request)
        allowed = caller.config.catalog.models_for(caller.plan)
        return {"object": "list", "data": [_shown(name, model) for model in allowed for name in _names(model)]}

    @get("/v1/models/{name:path}")
    async def one_model(request: Request[Any, Any, Any]) -> dict[str, Any]:
        caller = await callers.caller(request)
        asked = str(request.path_params["name"]).removeprefix("/")
        model = caller.config.catalog.model(asked)
        if model is None or not caller.plan.allows(model):
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
