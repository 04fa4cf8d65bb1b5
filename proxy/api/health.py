"""`GET /health/live` and `GET /health/ready`: whether to restart the gateway, and whether to send it work."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from engine.pool import Pool
from proxy.errors import LedgerUnavailable


def health(
    pools: Mapping[str, Pool], ping: Callable[[], Awaitable[Any]], draining: Callable[[], bool]
) -> list[HTTPRouteHandler]:
    """Return both handlers; ready needs Redis to answer `ping`, one healthy replica of some model, and no drain."""

    @get("/health/live", sync_to_thread=False)
    def live() -> dict[str, str]:
        return {"status": "live"}

    @get("/health/ready")
    async def ready() -> Response[dict[str, Any]]:
        checks = {"redis": await _answers(ping), "replicas": any(r.healthy for pool in pools.values() for r in pool)}
        good = all(checks.values()) and not draining()
        status = "draining" if draining() else "ready" if good else "not_ready"
        return Response({"status": status, **checks}, status_code=200 if good else 503)

    return [live, ready]


async def _answers(ping: Callable[[], Awaitable[Any]]) -> bool:
    try:
        await ping()
    except LedgerUnavailable:
        return False
    return True
