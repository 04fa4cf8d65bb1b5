"""
What a replica answers without generating: health, models, metrics, and the controls.

| beside vLLM's endpoints        | does                                                             |
|--------------------------------|------------------------------------------------------------------|
| `POST GET DELETE /sim/faults`  | sets, shows, clears faults (see `engine.sim.faults`)             |
| `GET /sim/stats`               | counters: requests, active, aborted (the client left), tokens …  |
| `POST /sim/reset_prefix_cache` | forgets the prefix cache                                         |
| `POST /sim/vanish`             | dies without a word: nothing listens, nothing open is closed     |

`POST /abort_requests` is vLLM's own, of its dev mode: `{"request_ids": ["chatcmpl-r", "cmpl-r-0"]}` ends those with
"abort", an empty list all. It answers how many ids it was given, known or not.

A replica that vanished is a vLLM that was told to stop, whose engine ended and whose server still waits for its
answers: connections are refused, and what is open stays silent. Nothing brings it back but a start.
"""

import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import orjson

from engine.sim import metrics
from engine.sim.config import SimConfig
from engine.sim.engine import Engine
from engine.sim.exchange import SimExchange
from engine.sim.faults import FaultTable
from engine.sim.rejection import Rejection

Handler = Callable[[SimExchange], Coroutine[Any, Any, None]]

VERSION = "0.32.0"


@dataclass(slots=True)
class Traffic:
    """Requests to the generating endpoints and to embeddings."""

    requests: int = 0
    active: int = 0
    aborted: int = 0
    """Those whose client left before its answer was complete."""
    aborted_at_us: int = 0
    """When the last of them, or the last that was aborted by its id, had ended; microseconds since the epoch."""


class Controls:
    """Handlers over a replica's parts."""

    def __init__(self, config: SimConfig, engine: Engine, faults: FaultTable, traffic: Traffic) -> None:
        self.leave: Callable[[], None] = _stay
        """Closes the listener and what is idle; the server gives it."""
        self._config = config
        self._engine = engine
        self._faults = faults
        self._traffic = traffic

    def routes(self) -> dict[str, dict[str, Handler]]:
        """Return the handlers by path and method."""
        return {
            "/health": {"GET": self.health},
            "/version": {"GET": self.version},
            "/metrics": {"GET": self.metrics},
            "/v1/models": {"GET": self.models},
            "/abort_requests": {"POST": self.abort_requests},
            "/sim/faults": {"GET": self.show_faults, "POST": self.add_faults, "DELETE": self.clear_faults},
            "/sim/stats": {"GET": self.stats},
            "/sim/reset_prefix_cache": {"POST": self.reset_prefix_cache},
            "/sim/vanish": {"POST": self.vanish},
        }

    async def abort_requests(self, exchange: SimExchange) -> None:
        """End the named requests, or all, with `finish_reason` "abort"."""
        await exchange.read_body()
        try:
            named = _request_ids(exchange.body)
        except Rejection as rejection:
            await exchange.reject(rejection)
            return
        ended = self._engine.abort(set(named) if named else None)
        if ended:
            self._traffic.aborted_at_us = time.time_ns() // 1_000
        await exchange.json(200, orjson.dumps({"status": "aborted", "aborted": len(named or ended)}))

    async def health(self, exchange: SimExchange) -> None:
        """Answer 200 with nothing, whatever the engine does."""
        await exchange.respond(200, b"", [])

    async def version(self, exchange: SimExchange) -> None:
        """Name the version that is simulated."""
        await exchange.json(200, orjson.dumps({"version": VERSION}))

    async def metrics(self, exchange: SimExchange) -> None:
        """Answer with the exposition."""
        body = metrics.render(self._config, self._engine)
        await exchange.respond(200, body, [(b"content-type", metrics.CONTENT_TYPE.encode())])

    async def models(self, exchange: SimExchange) -> None:
        """List the served models."""
        data = [self._model(name) for name in self._config.models]
        await exchange.json(200, orjson.dumps({"object": "list", "data": data}))

    def _model(self, name: str) -> dict[str, Any]:
        created = int(time.time())
        permission = {"id": f"modelperm-{os.urandom(8).hex()}", "object": "model_permission", "created": created}
        permission |= {"allow_create_engine": False, "allow_sampling": True, "allow_logprobs": True}
        permission |= {"allow_search_indices": False, "allow_view": True, "allow_fine_tuning": False}
        permission |= {"organization": "*", "group": None, "is_blocking": False}
        model = {"id": name, "object": "model", "created": created, "owned_by": "vllm", "root": self._config.models[0]}
        return {**model, "parent": None, "max_model_len": self._config.max_model_len, "permission": [permission]}

    async def show_faults(self, exchange: SimExchange) -> None:
        """List the faults in force."""
        await exchange.json(200, orjson.dumps({"faults": self._faults.rows()}))

    async def add_faults(self, exchange: SimExchange) -> None:
        """Add one fault or a list of them."""
        await exchange.read_body()
        try:
            self._faults.add(orjson.loads(exchange.body))
        except ValueError as error:
            await exchange.json(400, orjson.dumps({"detail": str(error)}))
            return
        await self.show_faults(exchange)

    async def clear_faults(self, exchange: SimExchange) -> None:
        """Drop every fault."""
        self._faults.clear()
        await self.show_faults(exchange)

    async def reset_prefix_cache(self, exchange: SimExchange) -> None:
        """Forget the prefix cache."""
        self._engine.cache.clear()
        await exchange.json(200, b"{}")

    async def vanish(self, exchange: SimExchange) -> None:
        """Die, as far as anybody can tell from outside."""
        await exchange.json(200, b"{}")
        self._engine.halt()
        self.leave()

    async def stats(self, exchange: SimExchange) -> None:
        """Count what tests want to know."""
        counters = self._engine.counters
        stats = {
            "requests": self._traffic.requests,
            "active": self._traffic.active,
            "aborted": self._traffic.aborted,
            "aborted_at_us": self._traffic.aborted_at_us,
            "running": len(self._engine.running),
            "waiting": self._engine.waiting,
            "prompt_tokens": counters.prompt_tokens,
            "cached_tokens": counters.cached_tokens,
            "generated_tokens": counters.generated_tokens,
            "finished": {str(reason): count for reason, count in counters.finished.items()},
        }
        await exchange.json(200, orjson.dumps(stats))


def _stay() -> None:
    """Keep listening: there is no server around."""


def _request_ids(body: bytes) -> list[str]:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Rejection(400, "Bad Request", "Invalid JSON format") from None
    if not isinstance(asked, dict):
        raise Rejection(400, "Bad Request", "Request body must be a JSON object")
    return asked.get("request_ids") or []
