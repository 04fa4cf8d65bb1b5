"""The two Litestar applications: which handlers each listener has, and how every error reads."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Litestar, Request, Response
from litestar.config.cors import CORSConfig
from litestar.enums import HttpMethod, ScopeType
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException
from litestar.status_codes import HTTP_400_BAD_REQUEST
from litestar.types import ControllerRouterHandler, Message, Send

from engine.fleet.pool import Pool
from proxy.api.admin import Operations, admin
from proxy.api.callers import Callers
from proxy.api.cors import EXPOSED, Pages
from proxy.api.health import Vitals, health
from proxy.api.openai import forwarded, models, not_forwarded
from proxy.api.quota import quota
from proxy.api.reports import Reports
from proxy.api.usage import usage
from proxy.edge.bodies import Bodies
from proxy.edge.edge import Edge
from proxy.errors import ApiError, Code, InternalError, InvalidRequest, MethodNotAllowed
from proxy.exchange import Exchange
from proxy.store.reservations import Reservations
from proxy.ulids import new_ulid

_log = logging.getLogger(__name__)

_ID = b"x-request-id"


def public_site(
    exchange: Exchange,
    pools: Mapping[str, Pool],
    store: Reservations,
    vitals: Vitals,
    *,
    edge: Edge,
    reports: Reports,
    cors_origins: Sequence[str] = (),
) -> Litestar:
    """
    Return what tenants reach, and pages of these origins through their browsers.

    The edge serves what is forwarded in a direct cycle: Litestar would cost a call for each part of each answer.
    """
    callers = Callers(exchange.in_force, exchange.meter.token_refused)
    edge.direct = forwarded(exchange, Bodies(), Pages(cors_origins))
    return _site(
        [
            not_forwarded(),
            *models(callers),
            *quota(callers, store),
            *usage(callers, reports),
            *health(pools, vitals, lambda: edge.draining),
        ],
        _cors(cors_origins),
    )


def admin_site(operations: Operations) -> Litestar:
    """Return what operators reach."""
    return _site(admin(operations))


class _Site(Litestar):
    """
    Answers HEAD wherever it answers GET: the server leaves out the body.

    Gives answers to OPTIONS an id too, of which some are nobody's handler's.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.HEAD:
            scope = {**scope, "method": HttpMethod.GET}
        elif scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.OPTIONS:
            send = _enveloping(_identifying(send))
        await super().__call__(scope, receive, send)


def _identifying(send: Send) -> Send:
    async def identified(message: Message) -> None:
        if message["type"] == "http.response.start" and not any(name == _ID for name, _ in message["headers"]):
            message["headers"] = [*message["headers"], (_ID, new_ulid().encode())]
        await send(message)

    return identified


def _enveloping(send: Send) -> Send:
    """Let Litestar's own refusal of a page's question, which is plain text, read as every other error does."""
    refused = False

    async def enveloped(message: Message) -> None:
        nonlocal refused
        if message["type"] == "http.response.start" and message["status"] == HTTP_400_BAD_REQUEST:
            refused = True
            return
        if not refused:
            await send(message)
        elif not message.get("more_body", False):
            error = InvalidRequest("A page of this origin may not ask this here: the operator lists who may, and how.")
            body = error.body()
            fields = {"content-type": "application/json", "content-length": str(len(body)), "vary": "Origin"}
            headers = [(name.encode(), value.encode()) for name, value in (fields | dict(error.headers())).items()]
            await send({"type": "http.response.start", "status": error.status, "headers": headers})
            await send({"type": "http.response.body", "body": body, "more_body": False})

    return enveloped


def _cors(origins: Sequence[str]) -> CORSConfig | None:
    if not origins:
        return None
    return CORSConfig(allow_origins=list(origins), allow_methods=["GET", "POST"], expose_headers=list(EXPOSED))


def _site(handlers: Sequence[ControllerRouterHandler], cors: CORSConfig | None = None) -> _Site:
    return _Site(
        route_handlers=handlers,
        exception_handlers={Exception: _answer},
        after_request=_identified,
        cors_config=cors,
        openapi_config=None,
        logging_config=None,
    )


def _identified(response: Response[Any]) -> Response[Any]:
    """Give an answer that is no exchange's an id too."""
    response.headers.setdefault("x-request-id", new_ulid())
    return response


def _answer(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    request_id = new_ulid()
    told = _as_api_error(error, request, request_id)
    headers = {**dict(told.headers()), "x-request-id": request_id}
    return Response(told.body(), status_code=told.status, media_type="application/json", headers=headers)


def _as_api_error(error: Exception, request: Request[Any, Any, Any], request_id: str) -> ApiError:
    match error:
        case ApiError():
            return error
        case NotFoundException():
            return ApiError(Code.NOT_FOUND, "There is nothing at this path.")
        case MethodNotAllowedException(headers=headers):
            return MethodNotAllowed((headers or {}).get("allow", "").split(", "))
        case HTTPException(status_code=status) if status < 500:
            return InvalidRequest("A parameter of the request is not what this path takes.")
        case _:
            _log.error("request_failed", exc_info=error, extra={"request_id": request_id})
            return InternalError()
