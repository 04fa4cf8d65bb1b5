"""
One try of an exchange on one replica: what it was granted, what the replica has told, and how it ended.

Begun with a turn, moved on by the relay, read by everybody: a cut at any point leaves what is known by then.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from engine.faults import EngineRefused, Unreadable, UpstreamFault
from engine.fleet.replica import Lease, Replica
from engine.protocols.base import StreamMachine
from engine.protocols.usage import Usage
from proxy.admitted import Admitted

_NOTHING = Usage()


@dataclass(slots=True)
class Attempt:
    """Units: tokens; times in seconds of a monotonic clock, 0.0 is not yet."""

    admitted: Admitted
    lease: Lease
    """Its place on the replica."""
    turned: float = field(default_factory=time.perf_counter)
    """When it was given its place."""
    dispatched: float = 0.0
    first_token: float = 0.0
    ended: float = 0.0
    """When the replica had nothing more to tell, or was not listened to any longer."""
    reached: bool = False
    """Whether the replica may have worked for it, or was made to look at it: then it is settled, never released."""
    usage: Usage = _NOTHING
    wasted_tokens: int = 0
    """What it used and the client did not get."""
    stream: StreamMachine | None = None
    """What reads the answer, where it is a stream."""
    held_back: bool = False
    """Whether the replica is not read from because the client does not read, so that it is ahead of what is known."""
    uncounted: bool = False
    """Whether it ran to its end, and the replica did not say what that cost."""
    fault: UpstreamFault | EngineRefused | None = None
    """Why it came to nothing, where the replica said or did something else than answer."""
    end: Sequence[bytes] | None = None
    """The last bytes of a whole answer, still to be sent, as they came; None of a part of one."""

    @property
    def replica(self) -> Replica:
        """Return the replica that is tried."""
        return self.lease.replica

    def was_sent(self) -> None:
        """Note that the replica has the request."""
        self.reached = True

    def observed(self, usage: Usage) -> None:
        """
        Note what the engine says it has used so far; raise `Unreadable` for what it cannot have.

        The completion was clamped to what was reserved and the prompt to the model's context, so more is no usage but a
        broken engine: nobody is billed by it.
        """
        admitted = self.admitted
        if usage.completion_tokens > admitted.completion_tokens_max or usage.prompt_tokens > admitted.prompt_tokens_max:
            tokens = usage.prompt_tokens + usage.completion_tokens
            raise Unreadable("the engine says that it used more than it was given", tokens=tokens)
        self.usage = usage

    def was_not_counted(self) -> None:
        """Note that the replica came to its end and did not say what that cost: at most running counts are known."""
        self.uncounted = True
        if not self.usage.completion_tokens:
            # Nothing was counted of what the client has.
            self.usage = _NOTHING

    @property
    def delivered(self) -> bool:
        """Whether the client has any of the answer, or gets it now."""
        return self.first_token > 0 or self.end is not None

    @property
    def known(self) -> bool:
        """Whether the replica has proven that this attempt used anything."""
        return self.usage != _NOTHING

    @property
    def outcome(self) -> str:
        """Name how it ended, for the log."""
        if self.end is not None:
            return "ok"
        return "cut" if self.fault is None else self.fault.reason

    @property
    def unobserved(self) -> bool:
        """
        Whether the replica may have worked, and has neither proven that it used anything nor refused to.

        A replica that is aborted before the first token proves nothing either: what it had computed of the prompt it
        does not tell, and a prefill must not be free for those who hang up.
        """
        return self.reached and not self.known and not self.wasted_tokens and not isinstance(self.fault, EngineRefused)

    @property
    def unreadable(self) -> bool:
        """Whether it ran to an end that says what it used, and of which the client has nothing."""
        return self.wasted_tokens > 0 and isinstance(self.fault, Unreadable)

    @property
    def unbegun_tokens(self) -> int:
        """Return what the replica may have used of those prompts that had not come to their first token."""
        asked = self.admitted.asked
        if self.stream is None or self.stream.prompts_begun >= self.admitted.call.request.prompts:
            return 0
        return max(0, asked.prompt_tokens - self.usage.prompt_tokens)

    @property
    def tokens_max(self) -> int:
        """Return the most that the replica can have used by the end: the prompts' bound, and what it could generate."""
        admitted = self.admitted
        call, seconds = admitted.call, max(0.0, (self.ended or self.dispatched) - self.dispatched)
        generated = min(admitted.max_completion, ceil(seconds * call.model.tokens_per_s_max))
        return admitted.asked.prompt_tokens + call.request.choices * generated

    def forget_trace(self) -> None:
        """
        Let go of where the fault was raised, once nobody is to be told any more.

        Its frames hold this attempt with all that was asked, and what holds each other waits for the garbage collector.
        """
        if self.fault is not None:
            self.fault.__traceback__ = self.fault.__cause__ = self.fault.__context__ = None

    def write_off(self, fault: UpstreamFault) -> None:
        """
        Note that the client gets nothing of it, whatever it used.

        An outage is not the request's doing: where nothing was used, it is as if it had never been sent.
        """
        self.wasted_tokens = self.usage.prompt_tokens + self.usage.completion_tokens
        if isinstance(fault, Unreadable) and not self.wasted_tokens:
            admitted = self.admitted
            self.wasted_tokens = min(fault.tokens, admitted.prompt_tokens_max + admitted.completion_tokens_max)
        self.usage = _NOTHING
        self.reached = self.reached and (fault.counts or self.wasted_tokens > 0)
