"""
One replica: where it is, what room it has, what it is doing, and whether it may be given work.

The gateway's own credits govern: a lease takes sequences and tokens from a replica and gives them back once.

A replica may hang while its `/health` answers 200 (vLLM's does). So tokens are watched too: `SILENCES_MAX` requests in
a row that ran into a deadline, without a token of any request between them, and it is **silent**: it gets no work until
one of its running requests, or the health check's probe, is answered with a token.

A replica that was down and is up again has a new **life**: nothing that was known of the one before holds, and what its
requests still tell is not believed of this one.

Silence is not death, but death is death: what runs on a replica that is found gone is **bereaved**, and whoever waits
for it is told to wait no longer than a dead replica deserves. Nobody subscribes to it; a lease has the way to be told.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from math import inf
from types import TracebackType
from typing import NamedTuple, Self

from engine.fleet.trouble import HUNG, Trouble
from engine.wire.credentials import NONE, Credentials

SILENCES_MAX = 3
STRANGERS_MAX = 3
"""Answers in a row with ids of their own, behind which there is another engine and not another's answer."""
_UNKNOWN = "not looked at yet"


class ReplicaSnapshot(NamedTuple):
    """A replica as a routing decision sees it, to be asked before anything else happens."""

    name: str
    healthy: bool
    free_sequences: int
    inflight_sequences: int
    inflight_tokens: int
    leases: Collection["Lease"]

    @property
    def earliest_end_us(self) -> int | None:
        """Microseconds since the epoch; None when nothing is in flight. Looks at every lease: for refusals."""
        return min((lease.expected_end_us for lease in self.leases), default=None)


class Lease:
    """A place on a replica, held for a block: from turn to the answer's end."""

    __slots__ = ("_life", "bereaved", "expected_end_us", "group", "hurry", "replica", "sequences", "tokens")

    def __init__(self, replica: "Replica", sequences: int, tokens: int, expected_end_us: int) -> None:
        self.replica = replica
        self.sequences = sequences
        self.tokens = tokens
        self.expected_end_us = expected_end_us
        self.group = replica.group
        """The replica's when the place was taken: a config after that may give it another."""
        self.bereaved = False
        """Whether the replica was found gone meanwhile."""
        self.hurry: Callable[[], None] | None = None
        """Called at every look that finds the replica gone, by whoever waits for it; twice is the same as once."""
        self._life = replica.life

    def spoke(self) -> None:
        """Note a token of the request."""
        if self._life == self.replica.life:
            self.replica.silences = 0

    def missed(self) -> None:
        """Note that the request ran into a deadline."""
        if self._life == self.replica.life:
            self.replica.silences += 1

    def __enter__(self) -> Self:
        """Take it."""
        replica = self.replica
        replica.leases[self] = None
        replica.inflight_sequences += self.sequences
        replica.inflight_tokens += self.tokens
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give it back."""
        replica = self.replica
        del replica.leases[self]
        replica.inflight_sequences -= self.sequences
        replica.inflight_tokens -= self.tokens


@dataclass(slots=True, eq=False)
class Replica:
    """A vLLM server, as the gateway knows it."""

    name: str
    url: str
    """Scheme, host and port, without a path."""
    sequences: int
    """Room: how many sequences it may have in flight."""
    group: str = ""
    model: str = ""
    """As clients name it."""
    serves: str = ""
    """By which name it serves that; empty where it is the same."""
    generates: bool = True
    """Whether it completes texts; one that does not embeds them."""
    abort_path: str = ""
    """Where it aborts requests by their ids; empty where it does not."""
    credentials: Credentials = NONE
    """What it is shown, and by what it is known."""
    healthy: bool = False
    """Unknown replicas start unhealthy; the first health check decides."""
    down: bool = False
    """Whether it was found not to answer at all, and has not come back since."""
    life: int = 0
    """How often it came back after it was down."""
    trouble: Trouble | None = None
    """What the last look at it met, or the last request that could not connect; None where it answered."""
    generating_at: float = -inf
    """When its engine was last seen to generate, by the clock of the event loop."""
    stall: str | None = None
    """What its engine says of itself while it generates nothing and should; None while it does."""
    named_looks: int = 0
    """How many looks it is believed to serve the model by its name, before it is asked again."""
    silences: int = 0
    """Deadlines missed in a row, without a token between them."""
    fingerprint: bytes = b""
    """What its engine called itself at the end of its last stream."""
    echoes: bool = False
    """Whether its answers have the ids of their requests."""
    strangers: int = 0
    """Answers in a row that had another, though it echoes."""
    leases: dict[Lease, None] = field(default_factory=dict)
    """In the order in which they were taken."""
    inflight_sequences: int = 0
    inflight_tokens: int = 0

    @property
    def asked_for(self) -> str:
        """Return the model's name in what it is asked."""
        return self.serves or self.model

    @property
    def silent(self) -> bool:
        """Whether it hangs, as far as can be told from outside."""
        return self.silences >= SILENCES_MAX

    def spoke(self) -> None:
        """Note an answer to a probe."""
        self.silences = 0

    @property
    def cause(self) -> str | None:
        """What is wrong with it, in words; None where nothing is."""
        if self.healthy and not self.silent:
            return self.stall
        if self.trouble is not None:
            return self.trouble.cause
        return (self.stall or HUNG.cause) if self.silent else _UNKNOWN

    def lost(self, trouble: Trouble) -> None:
        """Note that it does not answer at all."""
        self.healthy, self.down, self.trouble = False, True, trouble
        self.named_looks = 0

    def bereave(self) -> None:
        """Let nobody wait much longer for what runs on it: it is gone."""
        for lease in self.leases:
            lease.bereaved = True
            if lease.hurry is not None:
                lease.hurry()

    def came_back(self) -> None:
        """Begin another life, and forget the one before."""
        self.down = False
        self.life += 1
        self.silences = 0
        self.echoes, self.fingerprint = False, b""

    def answered(self, *, own: bool) -> bool:
        """Note whether an answer has its request's id; return whether it may be that request's."""
        if own:
            self.echoes, self.strangers = True, 0
        elif self.echoes:
            self.strangers += 1
            self.echoes = self.strangers < STRANGERS_MAX
            return False
        return True

    def lease(self, sequences: int, tokens: int, expected_end_us: int) -> Lease:
        """Hold `sequences` places and `tokens` on this replica until the block ends."""
        return Lease(self, sequences, tokens, expected_end_us)

    def snapshot(self) -> ReplicaSnapshot:
        """Return this replica as it stands now."""
        return ReplicaSnapshot(
            self.name,
            self.healthy and self.silences < SILENCES_MAX,
            self.sequences - self.inflight_sequences,
            self.inflight_sequences,
            self.inflight_tokens,
            self.leases,
        )
