"""
The admin listener: metrics for Prometheus, replicas for people, a reload for whoever has changed the config.

Rule: what changes something is asked for with a JSON content type and by a name or address of this listener. Because it
asks for no token, and a browser on this machine carries what any page tells it to: a form cannot send JSON, and a page
whose name was made to lead here (DNS rebinding) calls by that name.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit

from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler

from engine.fleet.pool import Pool
from engine.fleet.replica import Replica
from proxy.compose.reload import NotReloaded, Reloaded
from proxy.errors import ApiError, Code
from proxy.observe.metrics import Metrics

Shown = Mapping[str, Any]
"""One replica, as JSON shows it."""


class GatewayState(Protocol):
    """What operators ask for: of this process alone, or of all workers together."""

    async def exposition(self) -> tuple[bytes, str]:
        """Return Prometheus' text and its content type."""

    async def replicas(self) -> Sequence[Shown]:
        """Return every replica as it stands now."""


class OwnState:
    """The state of a gateway that is one process."""

    def __init__(self, pools: Mapping[str, Pool], metrics: Metrics) -> None:
        self._pools = pools
        self._metrics = metrics

    async def exposition(self) -> tuple[bytes, str]:
        """Render it in a thread, where a long one holds up no stream."""
        return await asyncio.to_thread(self._metrics.render)

    async def replicas(self) -> Sequence[Shown]:
        """Return what the pools hold."""
        return shown(self._pools)


class Operations(NamedTuple):
    """What operators may see, and do, and by which names."""

    state: GatewayState
    reload: Callable[[], Awaitable[Reloaded | NotReloaded]]
    names: Sequence[str] = ()


def admin(operations: Operations) -> list[HTTPRouteHandler]:
    """Return the handlers of `/metrics`, `/admin/replicas` and `/admin/reload`."""
    state = operations.state

    @get("/metrics")
    async def exposition() -> Response[bytes]:
        body, content_type = await state.exposition()
        return Response(body, headers={"content-type": content_type})

    @get("/admin/replicas")
    async def replicas() -> dict[str, Any]:
        return {"object": "list", "data": await state.replicas()}

    @post("/admin/reload")
    async def reload(request: Request[Any, Any, Any]) -> Response[dict[str, Any]]:
        _check_sender(request, operations.names)
        return _told(await operations.reload())

    return [exposition, replicas, reload]


def _check_sender(request: Request[Any, Any, Any], names: Collection[str]) -> None:
    """Pass a request that no page of a stranger can have made; raise `ApiError`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        message = "Send it with `Content-Type: application/json`; the body may be empty."
        raise ApiError(Code.UNSUPPORTED_MEDIA_TYPE, message)
    host = _host(request.headers.get("host", ""))
    if host != "localhost" and host not in names and not _is_address(host):
        message = "Call the admin listener by its address, as localhost, or by a name of `admin.names` in the config."
        raise ApiError(Code.PERMISSION_DENIED, message)


def _host(header: str) -> str:
    """Return the host of a `Host` header, in lower case; empty for what is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _told(outcome: Reloaded | NotReloaded) -> Response[dict[str, Any]]:
    if isinstance(outcome, NotReloaded):
        faults = [fault._asdict() for fault in outcome.faults]
        return Response({"object": "reload", "result": "refused", "faults": faults}, status_code=422)
    changed, waiting = ([change._asdict() for change in each] for each in (outcome.changed, outcome.needs_restart))
    return Response({"object": "reload", "result": "ok", "changed": changed, "needs_restart": waiting}, status_code=200)


def shown(pools: Mapping[str, Pool]) -> list[Shown]:
    """Return every replica of this process's pools as it stands now, those that leave behind the others."""
    return [
        _shown(pool, replica, leaving=leaving)
        for pool in pools.values()
        for leaving, replicas in ((False, pool), (True, pool.leaving))
        for replica in replicas
    ]


def _shown(pool: Pool, replica: Replica, *, leaving: bool) -> Shown:
    now = replica.snapshot()
    return {
        "model": pool.model,
        "url": replica.url,
        "group": replica.group,
        "name": now.name,
        "healthy": now.healthy,
        "stalled": replica.stall is not None,
        "cause": replica.cause,
        "life": replica.life,
        "leaving": leaving,
        "free_sequences": now.free_sequences,
        "inflight_sequences": now.inflight_sequences,
        "inflight_tokens": now.inflight_tokens,
        "earliest_end_us": now.earliest_end_us,
    }
