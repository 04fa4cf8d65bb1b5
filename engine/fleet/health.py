"""
Whether a replica may be given work: asked every second, and believed at once when a request could not connect.

Rules: one good answer makes a replica healthy, `_FAILURES_MAX` bad ones in a row unhealthy. vLLM's `/health` also
answers 200 while its engine hangs; that shows in the requests (`replica.py`). A replica that they found silent is
unhealthy until a token comes, and is asked for one at every look: a probe costs it some two tokens, billed to nobody.
One that is gone (`trouble.py`) takes with it what runs on it: that is told at every look, for as long as it is. So does
one that is silent after `_UNANSWERED_MAX` bad looks in a row: a machine without power refuses nothing.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import orjson

from engine.faults import UpstreamFault
from engine.fleet import trouble
from engine.fleet.generation import TokenWatch
from engine.fleet.replica import Replica
from engine.fleet.served import misnamed
from engine.fleet.trouble import Trouble
from engine.runtime.background import Background
from engine.wire.client import JSON, Upstream, UpstreamResponse

INTERVAL_S = 1.0
_ANSWER_S_MAX = 2.0
_PROBE_S_MAX = 5.0
_FAILURES_MAX = 3
_UNANSWERED_MAX = 10
"""Half a minute: each takes its deadline and the pause before it."""
_BODY_BYTES_MAX = 1_048_576
_GENERATION = "/v1/completions", {"prompt": ".", "max_tokens": 1}
_EMBEDDING = "/v1/embeddings", {"input": "."}

Changed = Callable[[Replica], None]
"""Told a replica of which something is otherwise than before."""


async def check(replica: Replica, upstream: Upstream) -> bool:
    """
    Return whether `GET /health` answers 200 within its deadline, by who serves the model; note on the replica why not.
    """
    looked = upstream.request("GET", f"{replica.url}/health", credentials=replica.credentials)
    met = await _trouble(looked, _ANSWER_S_MAX)
    if met is None and replica.asked_for:
        met = await misnamed(replica, upstream)
    replica.trouble = met
    return met is None


async def probe(replica: Replica, upstream: Upstream) -> bool:
    """Return whether the engine itself answers within its deadline: with one token, or one embedding."""
    path, asked = _GENERATION if replica.generates else _EMBEDDING
    body = orjson.dumps({"model": replica.asked_for, **asked})
    url, credentials = replica.url + path, replica.credentials
    asked_for = upstream.request("POST", url, credentials=credentials, fields=JSON, body=body)
    return await _trouble(asked_for, _PROBE_S_MAX) is None


async def _trouble(request: AbstractAsyncContextManager[UpstreamResponse], s_max: float) -> Trouble | None:
    """Return why a request is not answered with 200 in time; None where it is."""
    try:
        async with asyncio.timeout(s_max), request as response:
            await response.read(_BODY_BYTES_MAX)
            return None if response.status == 200 else trouble.of_status(response.status)
    except UpstreamFault as fault:
        return trouble.of_fault(fault)
    except TimeoutError:
        return trouble.SLOW


class HealthWatch(Background):
    """
    Looks at one replica, once a second after the first look, and calls `changed` when its health has changed.

    Calls `stalled` when its engine has stopped to generate, and when it goes on. `async with HealthWatch(...)`, or
    `begin` and `end` where replicas come and go.
    """

    def __init__(self, replica: Replica, upstream: Upstream, changed: Changed, stalled: Changed) -> None:
        super().__init__(self._look_on, f"health of {replica.name}")
        self._replica = replica
        self._upstream = upstream
        self._changed = changed
        self._stalled = stalled

    async def _look_on(self) -> None:
        replica, failures = self._replica, 0
        tokens = TokenWatch(replica, self._upstream)
        while True:
            await asyncio.sleep(INTERVAL_S)
            good = await check(replica, self._upstream)
            failures = 0 if good else failures + 1
            was_healthy = replica.healthy
            if good and replica.down:
                replica.came_back()
            elif failures >= _FAILURES_MAX and replica.trouble is not None:
                replica.lost(replica.trouble)
                if replica.trouble.gone or (replica.trouble.silent and failures >= _UNANSWERED_MAX):
                    replica.bereave()
            replica.healthy = not replica.silent and (good or replica.healthy)
            if replica.healthy is not was_healthy:
                self._changed(replica)
            if good and await tokens.look():
                self._stalled(replica)
            if replica.silent and good and await probe(replica, self._upstream):
                replica.spoke()
