"""The admin listener: metrics for Prometheus, replicas for people."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from engine.fleet.pool import Pool
from engine.fleet.replica import Replica
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


def admin(state: GatewayState) -> list[HTTPRouteHandler]:
    """Return the handlers of `/metrics` and `/admin/replicas`."""

    @get("/metrics")
    async def exposition() -> Response[bytes]:
        body, content_type = await state.exposition()
        return Response(body, headers={"content-type": content_type})

    @get("/admin/replicas")
    async def replicas() -> dict[str, Any]:
        return {"object": "list", "data": await state.replicas()}

    return [exposition, replicas]


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
        "life": replica.life,
        "leaving": leaving,
        "free_sequences": now.free_sequences,
        "inflight_sequences": now.inflight_sequences,
        "inflight_tokens": now.inflight_tokens,
        "earliest_end_us": now.earliest_end_us,
    }
