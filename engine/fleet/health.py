"""
Whether a replica may be given work: asked every second, and believed at once when a request could not connect.

Rules: one good answer makes a replica healthy, `_FAILURES_MAX` bad ones in a row unhealthy. vLLM's `/health` also
answers 200 while its engine hangs; that shows in the requests (`replica.py`). A replica that they found silent is
unhealthy until a token comes, and is asked for one at every look: a probe costs it some two tokens, billed to nobody.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial

import orjson

from engine.faults import UpstreamFault
from engine.fleet.replica import Replica
from engine.runtime.background import Background
from engine.wire.client import JSON, Upstream, UpstreamResponse

INTERVAL_S = 1.0
_ANSWER_S_MAX = 2.0
_PROBE_S_MAX = 5.0
_FAILURES_MAX = 3
_BODY_BYTES_MAX = 1_048_576
_GENERATION = "/v1/completions", {"prompt": ".", "max_tokens": 1}
_EMBEDDING = "/v1/embeddings", {"input": "."}


async def check(replica: Replica, upstream: Upstream) -> bool:
    """Return whether `GET /health` answers 200 within its deadline."""
    return await _answers(upstream.request("GET", f"{replica.url}/health"), _ANSWER_S_MAX)


async def probe(replica: Replica, upstream: Upstream) -> bool:
    """Return whether the engine itself answers within its deadline: with one token, or one embedding."""
    path, asked = _GENERATION if replica.generates else _EMBEDDING
    body = orjson.dumps({"model": replica.model, **asked})
    return await _answers(upstream.request("POST", replica.url + path, fields=JSON, body=body), _PROBE_S_MAX)


async def _answers(request: AbstractAsyncContextManager[UpstreamResponse], s_max: float) -> bool:
    try:
        async with asyncio.timeout(s_max), request as response:
            await response.read(_BODY_BYTES_MAX)
            return response.status == 200
    except (UpstreamFault, TimeoutError):
        return False


@asynccontextmanager
async def watched(
    replicas: list[Replica], upstream: Upstream, changed: Callable[[Replica], None]
) -> AsyncIterator[None]:
    """Check `replicas` as long as the block lasts; `changed` is called with each one whose health changed."""
    await asyncio.gather(*(_first_look(replica, upstream, changed) for replica in replicas))
    async with AsyncExitStack() as stack:
        for replica in replicas:
            watch = partial(_watch, replica, upstream, changed)
            await stack.enter_async_context(Background(watch, f"health of {replica.name}"))
        yield


async def _first_look(replica: Replica, upstream: Upstream, changed: Callable[[Replica], None]) -> None:
    replica.healthy = await check(replica, upstream)
    changed(replica)


async def _watch(replica: Replica, upstream: Upstream, changed: Callable[[Replica], None]) -> None:
    failures = 0
    while True:
        await asyncio.sleep(INTERVAL_S)
        good = await check(replica, upstream)
        failures = 0 if good else failures + 1
        was_healthy = replica.healthy
        if good and replica.down:
            replica.came_back()
        elif failures >= _FAILURES_MAX:
            replica.lost()
        replica.healthy = not replica.silent and (good or replica.healthy)
        if replica.healthy is not was_healthy:
            changed(replica)
        if replica.silent and good and await probe(replica, upstream):
            replica.spoke()
