"""
`GET /health/live` and `GET /health/ready`: whether to restart the gateway, and whether to send it work.

`GET /health` is where vLLM is asked, by whoever waits for an engine that can serve: it is answered as ready is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from engine.fleet.pool import Pool
from proxy.errors import LedgerEmptied, LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store.membership.generation import Generation


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the store's health is read from."""

    connection: RedisClient
    generation: Generation


def health(pools: Mapping[str, Pool], store: Vitals, draining: Callable[[], bool]) -> list[HTTPRouteHandler]:
    """Return both handlers; ready needs Redis with its data, one healthy replica of some model, and no drain."""

    @get("/health/live", sync_to_thread=False)
    def live() -> dict[str, str]:
        return {"status": "live"}

    @get(["/health", "/health/ready"])
    async def ready() -> Response[dict[str, Any]]:
        checks = {
            "redis": await _answers(store.connection),
            "ledger": not store.generation.lost,
            "replicas": any(r.healthy for pool in pools.values() for r in pool),
        }
        good = all(checks.values()) and not draining()
        status = "draining" if draining() else "ready" if good else "not_ready"
        reason = {"reason": LedgerEmptied().message} if store.generation.lost else {}
        return Response({"status": status, **checks, **reason}, status_code=200 if good else 503)

    return [live, ready]


async def _answers(connection: RedisClient) -> bool:
    try:
        await connection.call("PING")
    except LedgerUnavailable:
        return False
    return True
