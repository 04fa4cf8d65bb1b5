"""
One sequence: a prompt and the tokens generated for it so far.

Rules, in the order in which they end a sequence: a fault's trap, the natural end (unless `ignore_eos`), a stop string,
`max_tokens`. Neither of the middle two applies before `min_tokens`. Text that may turn out to be the beginning of a
stop string is held back, as vLLM does: such a step has an empty delta and still counts its token.

Pure: no clock, no I/O.
"""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from enum import StrEnum

from engine.sim.tokens import Text, Token


class Finish(StrEnum):
    """Why a sequence ended, as vLLM's `finish_reason` has it."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"


class Trap(StrEnum):
    """How a sequence fails once it has generated so many tokens (see `engine.sim.faults`)."""

    HANG = "hang"
    CRASH = "crash"
    ENGINE_DEAD = "engine_dead"
    ABORT = "abort"
    HOLD_END = "hold_end"
    """Not before the next token, but before the usage and `[DONE]` of the whole answer."""
    LATE = "late"
    """Not within the answer, but behind it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What ends a sequence. Units: tokens."""

    max_tokens: int
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    trap: Trap | None = None
    trap_after: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One token of one sequence, or its end without a token (`token` None)."""

    index: int
    """Which choice of the answer."""

    delta: str
    token: Token | None
    prompt_tokens: int
    completion_tokens: int
    finish: Finish | None = None
    stop_reason: str | None = None
    trap: Trap | None = None


@dataclass(slots=True)
class Sequence:
    """A prompt, its limits and its state."""

    index: int
    prompt: Ordered[int]
    text: Text
    limits: Limits
    salt: str | None = None
    owner: str = ""
    """The id by which it is aborted."""

    generated: list[Token] = field(default_factory=list)
    spelled: str = ""
    """What was generated, cut at a stop string."""

    shown: int = 0
    """How many characters of it were given away in steps."""

    finish: Finish | None = None
    stop_reason: str | None = None
    cached_tokens: int = 0

    @property
    def trapped(self) -> Trap | None:
        """The trap that snaps instead of the next token, if any."""
        if self.limits.trap in (Trap.HOLD_END, Trap.LATE):
            return None
        return self.limits.trap if len(self.generated) >= self.limits.trap_after else None

    def advance(self) -> Step:
        """Generate one token."""
        token = next(self.text)
        if self._ended_by_itself():
            token = Token(token.id, "")
            self.finish = Finish.STOP
        self.generated.append(token)
        self.spelled += token.text
        self._look_for_stop(len(token.text))
        if self.finish is None and len(self.generated) >= self.limits.max_tokens:
            self.finish = Finish.LENGTH
        return self._step(token)

    def abort(self, trap: Trap | None = None) -> Step:
        """End without a further token; `trap` says that a fault did it."""
        self.finish = Finish.ABORT
        return self._step(None, trap)

    def _ended_by_itself(self) -> bool:
        count = len(self.generated) + 1
        return not self.limits.ignore_eos and count > self.limits.min_tokens and count >= self.text.natural_tokens

    def _look_for_stop(self, fresh: int) -> None:
        if len(self.generated) <= self.limits.min_tokens:
            return
        for stop in self.limits.stop:
            found = self.spelled.find(stop, max(0, len(self.spelled) - fresh - len(stop) + 1))
            if found >= 0:
                self.spelled = self.spelled[:found]
                self.finish, self.stop_reason = Finish.STOP, stop
                return

    def _step(self, token: Token | None, trap: Trap | None = None) -> Step:
        held = 0 if self.finish else max((len(stop) - 1 for stop in self.limits.stop), default=0)
        until = max(self.shown, len(self.spelled) - held)
        delta, self.shown = self.spelled[self.shown : until], until
        count = len(self.generated)
        return Step(self.index, delta, token, len(self.prompt), count, self.finish, self.stop_reason, trap)
