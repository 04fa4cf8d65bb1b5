"""The admin listener: metrics for Prometheus, replicas for people."""

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from engine.pool import Pool
from proxy.observe.metrics import Metrics


def admin(pools: Mapping[str, Pool], metrics: Metrics) -> list[HTTPRouteHandler]:
    """Return the handlers of `/metrics` and `/admin/replicas`."""

    @get("/metrics")
    async def exposition() -> Response[bytes]:
        body, content_type = await asyncio.to_thread(metrics.render)
        return Response(body, headers={"content-type": content_type})

    @get("/admin/replicas", sync_to_thread=False)
    def replicas() -> dict[str, Any]:
        return {
            "object": "list",
            "data": [
                {"model": model, "url": replica.url, "group": replica.group, **asdict(replica.snapshot())}
                for model, pool in pools.items()
                for replica in pool
            ],
        }

    return [exposition, replicas]
