"""The two Litestar applications: which handlers each listener has, and how every error reads."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.types import ControllerRouterHandler
from ulid import ULID

from engine.pool import Pool
from proxy.answers import error_headers
from proxy.api.admin import admin
from proxy.api.callers import Callers
from proxy.api.health import health
from proxy.api.openai import forwarded, models
from proxy.api.quota import quota
from proxy.errors import ApiError, Code, InternalError, InvalidRequest
from proxy.exchange import Exchange
from proxy.observe.metrics import Metrics
from proxy.store.connection import Connection
from proxy.store.reservations import Reservations

_log = logging.getLogger(__name__)


def public_site(exchange: Exchange, pools: Mapping[str, Pool], store: Reservations, connection: Connection) -> Litestar:
    """Return what tenants reach."""
    catalog = exchange.catalog
    callers = Callers(exchange.authenticate, catalog)
    return _site(
        [
            *forwarded(exchange, write_s_max=exchange.bounds.idle_s_max),
            *models(catalog, callers),
            *quota(catalog, callers, store),
            *health(pools, lambda: connection.call("PING")),
        ]
    )


def admin_site(pools: Mapping[str, Pool], metrics: Metrics) -> Litestar:
    """Return what operators reach."""
    return _site(admin(pools, metrics))


def _site(handlers: Sequence[ControllerRouterHandler]) -> Litestar:
    return Litestar(
        route_handlers=handlers,
        exception_handlers={Exception: _answer},
        after_request=_identified,
        openapi_config=None,
        logging_config=None,
    )


def _identified(response: Response[Any]) -> Response[Any]:
    """Give an answer that is no exchange's an id too."""
    response.headers.setdefault("x-request-id", str(ULID()))
    return response


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    request_id = str(ULID())
    told = _as_api_error(error, request, request_id)
    headers = {**dict(error_headers(told)), "x-request-id": request_id}
    return Response(told.body(), status_code=told.status, media_type="application/json", headers=headers)


def _as_api_error(error: Exception, request: Request[Any, Any, Any], request_id: str) -> ApiError:
    match error:
        case ApiError():
            return error
        case NotFoundException():
            return ApiError(Code.NOT_FOUND, "There is nothing at this path.")
        case MethodNotAllowedException():
            return ApiError(Code.METHOD_NOT_ALLOWED, f"This path does not take {request.method}.")
        case HTTPException(status_code=status) if status < 500:
            return InvalidRequest("A parameter of the request is not what this path takes.")
        case _:
            _log.error("request_failed", exc_info=error, extra={"request_id": request_id})
            return InternalError()
