"""
One request's life: authenticate → admit → take a turn → relay → settle → meter.

This is the only place that puts the stages together: it hands what one returns to the next. What each does stands in
`stages/`, one file a stage; what is known of an exchange at any moment in `exchange_state.py`.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import perf_counter

from engine.faults import EngineRefused, UpstreamFault, UpstreamTimeout
from engine.protocols.base import ApiProtocol
from policies.routing import Job
from proxy.admitted import Admitted
from proxy.attempt import Attempt
from proxy.call import Call, understand
from proxy.edge.bodies import SMALL_ANSWER_BYTES_MAX
from proxy.errors import ApiError, ClientGone, Code, InternalError, ShuttingDown
from proxy.exchange_state import ExchangeState
from proxy.http.answers import answer_error
from proxy.http.downstream import Downstream
from proxy.http.early_head import EarlyHead
from proxy.http.headers import early_headers, exchange_headers
from proxy.http.told_charge import tell_charge
from proxy.http.wishes import wishes
from proxy.identity.principal import Principal
from proxy.in_force import Config, InForce
from proxy.stages.admit import Admit
from proxy.stages.authenticate import authenticate
from proxy.stages.meter import Meter
from proxy.stages.progress import Progress
from proxy.stages.relay import Relay
from proxy.stages.settle import Reservation
from proxy.stages.turn import Turns
from proxy.store.outbox.outbox import Outbox

_log = logging.getLogger(__name__)

Learn = Callable[[ExchangeState], None]
"""Who is told of every exchange once it has ended, to decide better about the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The stages, ready for any number of requests at once."""

    incarnation: str
    in_force: InForce
    admit: Admit
    turns: Turns
    relay: Relay
    outbox: Outbox
    progress: Progress
    meter: Meter
    learns: tuple[Learn, ...] = ()

    async def __call__(self, protocol: ApiProtocol, downstream: Downstream) -> None:
        """Serve one request to its end, whatever that end is, by the config that holds at its beginning."""
        config = self.in_force.now
        state = ExchangeState(protocol, self.incarnation)
        try:
            await self._serve(config, downstream, state)
        except ClientGone as gone:
            state.failed(gone)
            state.forget_traces()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (whatever it was, the client is answered)
            state.failed(error)
            with suppress(ClientGone):
                await answer_error(downstream, _told(error, state), state)
            state.forget_traces()
        finally:
            state.ended = perf_counter()
            self.meter(state)
            for learn in self.learns:
                learn(state)

    async def _serve(self, config: Config, downstream: Downstream, state: ExchangeState) -> None:
        state.principal = principal = await authenticate(config.verifier, downstream)
        wished = wishes(downstream)
        state.client_request_id = wished.request_id
        state.call = call = await _read(config, downstream, principal, state)
        with self.progress.following(state):
            async with Reservation(self.outbox, call.plan.limits, state) as reservation:
                state.admitted = admitted = await self.admit(call, state.record(), wished.once)
                early_s = config.bounds.head_hold_s_max if call.request.stream and not wished.holds_head else None
                with EarlyHead(downstream, early_s, partial(early_headers, state)):
                    end = await self._answer(admitted, downstream, state)
                await reservation.settle()
        if call.price and state.final and (wished.tells_charge or not call.request.stream):
            end = tell_charge(downstream, end, state.final)
        await downstream.finish(*end)

    async def _answer(self, admitted: Admitted, downstream: Downstream, state: ExchangeState) -> Sequence[bytes]:
        """Relay from one replica or, as long as nothing reached the client, from another; return the answer's end."""
        job = admitted.job()
        fault: UpstreamFault | EngineRefused | None = None
        while len(job.tried) < admitted.call.bounds.attempts_max and (fault is None or fault.again):
            try:
                attempt = await self._try(admitted, job, downstream, state)
            except ApiError:
                if fault is None or downstream.delivered:
                    raise
                break
            if attempt.end is not None:
                return attempt.end
            fault, job = attempt.fault, job.without(attempt.replica.name)
        if isinstance(fault, UpstreamTimeout):
            raise ApiError(Code.UPSTREAM_TIMEOUT, "The replica did not answer in time.") from fault
        why = fault.reason if fault else "none was asked"
        message = f"The replica failed ({why}), and no other could take the request."
        if fault and not fault.again:
            message = f"The answer cannot be passed on ({why}), and is not made a second time."
        raise ApiError(Code.UPSTREAM_ERROR, message) from fault

    async def _try(self, admitted: Admitted, job: Job, downstream: Downstream, state: ExchangeState) -> Attempt:
        """Take a turn and relay; return how it went, with the answer's end or with the replica's fault."""
        async with self.turns.take(job) as turn:
            attempt = Attempt(admitted, turn.lease)
            state.attempts.append(attempt)
            try:
                await self.relay(attempt, downstream, state.request_id, exchange_headers(state))
            except UpstreamFault as fault:
                attempt.write_off(fault)
                turn.failed(fault)
                attempt.forget_trace()
        return attempt


async def _read(config: Config, downstream: Downstream, principal: Principal, state: ExchangeState) -> Call:
    bounds = config.bounds
    body = await downstream.read_body((principal.tenant, principal.user), bounds)
    state.body_read = perf_counter()
    call = understand(state.protocol, body, principal, catalog=config.catalog, bounds=bounds)
    if call.answer_bytes > SMALL_ANSWER_BYTES_MAX:
        downstream.share.expect(call.answer_bytes)
    return call


def _told(error: BaseException, state: ExchangeState) -> ApiError | EngineRefused:
    """Return what the client is told of how its exchange failed."""
    if isinstance(error, ApiError | EngineRefused):
        return error
    if isinstance(error, asyncio.CancelledError):
        # The server cuts what outlasts its drain: this task has nothing left to do but to say so.
        return ShuttingDown()
    _log.error("exchange_failed", exc_info=error, extra={"request_id": state.request_id})
    return InternalError()
