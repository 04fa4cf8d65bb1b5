"""
What has happened in one exchange so far; frozen into its record at the end.

The stages write here as they go, so that a cut at any point leaves what is known by then.
"""

import asyncio
import time
from dataclasses import dataclass, field

from ulid_transform import ulid_now

from engine.faults import EngineRefused, UpstreamBroken
from engine.protocols.openai import Endpoint
from engine.protocols.usage import Usage
from policies.quota import LimitStatus
from proxy.billing.charging import charge_for
from proxy.billing.record import CLIENT_CLOSED, OK, SHUTDOWN, ExchangeRecord, Source
from proxy.call import Call
from proxy.errors import ApiError, Code
from proxy.http.downstream import ClientGone
from proxy.identity.principal import Principal


@dataclass(slots=True)
class Stopwatch:
    """When things happened, in seconds of a monotonic clock; 0.0 is not yet."""

    started: float = field(default_factory=time.perf_counter)
    body_read: float = 0.0
    admitted: float = 0.0
    turned: float = 0.0
    """When it was first given a place on a replica."""
    dispatched: float = 0.0
    """When the last attempt was sent to a replica."""
    first_token: float = 0.0
    upstream_ended: float = 0.0
    ended: float = 0.0

    @property
    def request_s(self) -> float:
        """From the request's head to the end of its answer."""
        return self.ended - self.started

    @property
    def overhead_s(self) -> float:
        """What the gateway itself took: all but reading the request and waiting for a replica."""
        begun = self.body_read or self.started
        upstream_s = (self.upstream_ended or self.ended) - self.dispatched if self.dispatched else 0.0
        return max(0.0, self.ended - begun - upstream_s)


@dataclass(slots=True)
class Tally:
    """The running account of one exchange."""

    endpoint: Endpoint
    incarnation: str
    request_id: str = field(default_factory=ulid_now)
    """Also the key of its reservation and of its ledger record."""
    started_at_us: int = field(default_factory=lambda: time.time_ns() // 1_000)
    watch: Stopwatch = field(default_factory=Stopwatch)
    principal: Principal | None = None
    call: Call | None = None
    idempotency_key: str | None = None
    """The client's own key for this request."""
    statuses: tuple[LimitStatus, ...] = ()
    max_completion: int = 0
    """Granted tokens per choice."""
    clamped: bool = False
    prompt_reserved: int = 0
    """Tokens reserved for all prompts together: their upper bound."""
    trimmed: bool = False
    """Whether what was reserved beyond the prompt has been given back."""
    replica: str = ""
    group: str = ""
    attempts: int = 0
    reached: bool = False
    """Whether a replica may have worked for it: then it is settled, never released."""
    usage: Usage = field(default_factory=Usage)
    wasted_tokens: int = 0
    """What replicas spent, or may have spent unobserved, and nobody is billed for."""
    source: Source = Source.CUT
    outcome: str = OK
    final: ExchangeRecord | None = None
    """The FINAL record, once it is sent to the ledger; nothing that happens later changes it."""
    billed: bool = False
    """Whether the ledger has answered that it holds `final`."""

    @property
    def queue_ms(self) -> int:
        """How long it waited for its turn."""
        return int(1_000 * (self.watch.turned - self.watch.admitted)) if self.watch.turned else 0

    def was_sent(self) -> None:
        """Note that a replica has the request."""
        self.reached = True

    def observed(self, usage: Usage) -> None:
        """
        Note what the engine says it has used so far; raise `UpstreamBroken` for what it cannot have.

        The completion was clamped to what was reserved and the prompt to the model's context, so more is no usage but a
        broken engine: nobody is billed by it.
        """
        call = self.call
        assert call is not None
        request = call.request
        if (
            usage.completion_tokens > request.choices * self.max_completion
            or usage.prompt_tokens > request.prompts * call.model.context_tokens
        ):
            raise UpstreamBroken("the engine says that it used more than it was given")
        self.usage = usage

    @property
    def known(self) -> bool:
        """Whether a replica has proven that the present attempt used anything."""
        return self.usage != Usage()

    @property
    def unobserved(self) -> bool:
        """
        Whether the client hung up on a replica before anything was proven to be used.

        A replica that is aborted before the first token proves nothing either: what it had computed of the prompt it
        does not tell, and a prefill must not be free for those who hang up.
        """
        return self.reached and self.outcome == CLIENT_CLOSED and not self.known

    @property
    def spare(self) -> int:
        """What was reserved beyond the prompt, once the engine has counted it; of several prompts, only at the end."""
        call = self.call
        if call is None or call.request.prompts != 1 or not self.usage.prompt_tokens:
            return 0
        return max(0, self.prompt_reserved - self.usage.prompt_tokens)

    def wasted(self) -> None:
        """Write off what was used so far: the client will not get it."""
        self.wasted_tokens += self.usage.prompt_tokens + self.usage.completion_tokens
        self.usage = Usage()

    def wasted_unobserved(self) -> None:
        """Write off all that was reserved: the quota keeps it, because nobody knows how much of it was used."""
        assert self.call is not None
        self.wasted_tokens += self.prompt_reserved + self.call.request.choices * self.max_completion

    def failed(self, error: BaseException) -> None:
        """Note how the exchange ended, unless it had its end already."""
        if self.final is None:
            self.outcome = _outcome(error)

    def record(self) -> ExchangeRecord:
        """Return the record as it stands; what is not known yet is empty."""
        principal, call, watch, usage = self.principal, self.call, self.watch, self.usage
        charge = charge_for(call.price if call else None, usage)
        # In the order of the fields: by their names it costs twice as much.
        return ExchangeRecord(
            usage.prompt_tokens,
            usage.cached_tokens,
            usage.completion_tokens,
            charge.charge_micros,
            self.wasted_tokens,
            self.request_id,
            self.incarnation,
            principal.tenant if principal else "",
            principal.user if principal else "",
            principal.plan if principal else "",
            call.plan.lane if call else "",
            call.model.name if call else "",
            self.replica,
            self.group,
            self.endpoint.name,
            call.request.choices if call else 0,
            self.started_at_us,
            self.started_at_us + int(1_000_000 * (time.perf_counter() - watch.started)),
            self.source,
            self.outcome,
            call.request.stream if call else False,
            self.queue_ms,
            int(1_000 * (watch.first_token - watch.started)) if watch.first_token else None,
            charge.price_version,
            charge.currency,
            self.attempts,
        )


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
