"""
What is known of one exchange: what each stage has returned so far, and the record that is made of it.

Only `proxy/exchange.py` puts in what a stage returned; whoever is told of an exchange, at whatever point it was cut,
reads here.
"""

import asyncio
import time
from dataclasses import dataclass, field

from engine.faults import EngineRefused
from engine.protocols.base import ApiProtocol
from engine.protocols.usage import Usage
from proxy.admitted import Admitted
from proxy.attempt import Attempt
from proxy.billing.charging import charge_for
from proxy.billing.record import CLIENT_CLOSED, OK, SHUTDOWN, ExchangeRecord, Source
from proxy.call import Call
from proxy.errors import ApiError, ClientGone, Code
from proxy.identity.principal import Principal
from proxy.ulids import new_ulid

_NOTHING = Usage()
_CUTS = (CLIENT_CLOSED, Code.UPSTREAM_TIMEOUT)
"""Outcomes of an answer that was cut while its replica may have been at work."""


@dataclass(slots=True)
class ExchangeState:
    """One exchange so far. Units: times in seconds of a monotonic clock, 0.0 is not yet."""

    protocol: ApiProtocol
    incarnation: str
    request_id: str = field(default_factory=new_ulid)
    """Also the key of its reservation and of its ledger record."""
    started_at_us: int = field(default_factory=lambda: time.time_ns() // 1_000)
    started: float = field(default_factory=time.perf_counter)
    client_request_id: str = ""
    """The client's own name for it."""
    principal: Principal | None = None
    body_read: float = 0.0
    call: Call | None = None
    admitted: Admitted | None = None
    attempts: list[Attempt] = field(default_factory=list)
    outcome: str = OK
    refusal: ApiError | None = None
    """What the client was told instead of an answer, where it was told anything of ours."""
    final: ExchangeRecord | None = None
    """The FINAL record, once it is sent to the ledger; nothing that happens later changes it."""
    billed: bool = False
    """Whether the ledger has answered that it holds `final`."""
    ended: float = 0.0

    @property
    def attempt(self) -> Attempt | None:
        """Return the latest attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def usage(self) -> Usage:
        """Return what is known to be used of the answer that the client gets."""
        return self.attempts[-1].usage if self.attempts else _NOTHING

    @property
    def reached(self) -> bool:
        """Whether a replica may have worked for it: then it is settled, never released."""
        return any(attempt.reached for attempt in self.attempts)

    @property
    def held_tokens(self) -> int:
        """
        Return what may have been used of an answer that was given, cut or could not be read, and is not known.

        An upper bound: the prompt's, and what the replica could have generated since; of many prompts, those that had
        not come to a token. The quota keeps it, so that nobody prefills for free by hanging up.
        """
        attempt = self.attempts[-1] if self.attempts else None
        if attempt is None or not attempt.unobserved:
            return attempt.unbegun_tokens if attempt and self.outcome in _CUTS else 0
        fault = attempt.fault
        worked = attempt.delivered or self.outcome in _CUTS or (fault is not None and not fault.again)
        return attempt.tokens_max if worked else 0

    @property
    def came_to_nothing(self) -> bool:
        """Whether the client got nothing of an answer and pays nothing."""
        return self.usage == _NOTHING and not any(each.delivered for each in self.attempts)

    @property
    def queue_ms(self) -> int:
        """How long it waited for its first turn."""
        if self.admitted is None or not self.attempts:
            return 0
        return int(1_000 * (self.attempts[0].turned - self.admitted.at))

    @property
    def request_s(self) -> float:
        """From the request's head to the end of its answer."""
        return self.ended - self.started

    @property
    def overhead_s(self) -> float:
        """What the gateway itself took: all but reading the request and waiting for a replica."""
        begun = self.body_read or self.started
        attempt = self.attempt
        upstream_s = (attempt.ended or self.ended) - attempt.dispatched if attempt and attempt.dispatched else 0.0
        return max(0.0, self.ended - begun - upstream_s)

    def forget_traces(self) -> None:
        """Let go of where it and its attempts failed."""
        for attempt in self.attempts:
            attempt.forget_trace()
        if self.refusal is not None:
            self.refusal.__traceback__ = self.refusal.__cause__ = self.refusal.__context__ = None

    def failed(self, error: BaseException) -> None:
        """Note how the exchange ended, unless it had its end already."""
        if self.final is None:
            self.outcome = _outcome(error)
            self.refusal = error if isinstance(error, ApiError) else None

    def record(self) -> ExchangeRecord:
        """Return the record as it stands; what is not known yet is empty."""
        principal, call, attempts = self.principal, self.call, self.attempts
        attempt, usage, first_token, held_tokens, wasted_tokens, queue_ms = None, _NOTHING, 0.0, 0, 0, 0
        if attempts:
            attempt = attempts[-1]
            usage, first_token, held_tokens = attempt.usage, attempt.first_token, self.held_tokens
            wasted_tokens = held_tokens + sum([each.wasted_tokens for each in attempts])
            queue_ms = self.queue_ms
        charge = charge_for(call.price if call else None, usage)
        # In the order of the fields: by their names it costs twice as much.
        return ExchangeRecord(
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            charge.charge_picos,
            wasted_tokens,
            usage.reasoning_tokens,
            self.request_id,
            self.incarnation,
            principal.tenant if principal else "",
            principal.user if principal else "",
            principal.plan if principal else "",
            call.plan.lane if call else "",
            call.model.name if call else "",
            attempt.lease.replica.name if attempt else "",
            attempt.lease.group if attempt else "",
            self.protocol.name,
            call.request.choices if call else 0,
            self.started_at_us,
            self.started_at_us + int(1_000_000 * (time.perf_counter() - self.started)),
            _source(attempt, held_tokens),
            self.outcome,
            call.request.stream if call else False,
            queue_ms,
            int(1_000 * (first_token - self.started)) if first_token else None,
            charge.price_version,
            charge.currency,
            len(attempts),
            self.client_request_id,
        )


def _source(attempt: Attempt | None, held_tokens: int) -> Source:
    if held_tokens and attempt and not attempt.known:
        return Source.UNOBSERVED
    if attempt is None or attempt.uncounted or (attempt.end is None and not attempt.unreadable):
        return Source.CUT
    return Source.ENGINE


def _outcome(error: BaseException) -> str:
    match error:
        case ApiError():
            return error.code
        case ClientGone():
            return CLIENT_CLOSED
        case EngineRefused():
            return Code.INVALID_REQUEST
        case asyncio.CancelledError():
            return SHUTDOWN
        case _:
            return Code.INTERNAL_ERROR
