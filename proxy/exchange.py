"""
One request's life: authenticate → admit → take a turn → relay → settle → meter.

This is the only place that puts the stages together. What each does stands in `stages/`, one file a stage.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter

from engine.faults import EngineRefused, UpstreamFault, UpstreamTimeout
from engine.protocols.openai import Endpoint
from proxy.call import Call, understand
from proxy.catalog import Catalog
from proxy.errors import ApiError, Code, InternalError, ShuttingDown
from proxy.http.answers import answer_error
from proxy.http.downstream import ClientGone, Downstream
from proxy.settings.sections import Bounds
from proxy.stages.admit import Admit, idempotency_key
from proxy.stages.authenticate import Authenticate
from proxy.stages.meter import Meter
from proxy.stages.relay import Relay
from proxy.stages.turn import TakeTurn
from proxy.tally import Tally

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The stages, ready for any number of requests at once."""

    incarnation: str
    catalog: Catalog
    bounds: Bounds
    authenticate: Authenticate
    admit: Admit
    take_turn: TakeTurn
    relay: Relay
    meter: Meter

    async def __call__(self, endpoint: Endpoint, downstream: Downstream) -> None:
        """Serve one request to its end, whatever that end is."""
        tally = Tally(endpoint, self.incarnation)
        try:
            await self._serve(downstream, tally)
        except ClientGone as gone:
            tally.failed(gone)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (whatever it was, the client is answered)
            tally.failed(error)
            with suppress(ClientGone):
                await answer_error(downstream, _told(error, tally), tally)
        finally:
            self.meter(tally)

    async def _serve(self, downstream: Downstream, tally: Tally) -> None:
        tally.principal = await self.authenticate(downstream)
        tally.idempotency_key = idempotency_key(downstream)
        tally.call = call = await self._read(downstream, tally)
        async with self.admit(call, tally) as reservation:
            end = await self._answer(call, downstream, tally)
            await reservation.settle()
        await downstream.finish(end)

    async def _read(self, downstream: Downstream, tally: Tally) -> Call:
        assert tally.principal is not None
        body = await downstream.read_body(bytes_max=self.bounds.body_bytes_max, s_max=self.bounds.body_s_max)
        tally.watch.body_read = perf_counter()
        return understand(tally.endpoint, body, tally.principal, catalog=self.catalog, bounds=self.bounds)

    async def _answer(self, call: Call, downstream: Downstream, tally: Tally) -> bytes:
        """Relay from one replica or, as long as nothing reached the client, from another; return the answer's end."""
        tried: set[str] = set()
        fault: UpstreamFault | None = None
        while len(tried) < self.bounds.attempts_max and not isinstance(fault, UpstreamTimeout):
            try:
                with self.take_turn(call, tally, tried) as replica:
                    return await self.relay(call, replica, downstream, tally)
            except UpstreamFault as error:
                fault = error
                tried.add(tally.replica)
            except ApiError:
                if fault is None or downstream.started:
                    raise
                break
        tally.wasted()
        if isinstance(fault, UpstreamTimeout):
            raise ApiError(Code.UPSTREAM_TIMEOUT, "The replica did not answer in time.") from fault
        raise ApiError(Code.UPSTREAM_ERROR, "The replica failed, and no other could take the request.") from fault


def _told(error: BaseException, tally: Tally) -> ApiError | EngineRefused:
    """Return what the client is told of how its exchange failed."""
    if isinstance(error, ApiError | EngineRefused):
        return error
    if isinstance(error, asyncio.CancelledError):
        # The server cuts what outlasts its drain: this task has nothing left to do but to say so.
        return ShuttingDown()
    _log.error("exchange_failed", exc_info=error, extra={"request_id": tally.request_id})
    return InternalError()
