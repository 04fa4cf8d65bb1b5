"""
One replica: where it is, what room it has, what it is doing, and whether it may be given work.

The gateway's own credits govern: a lease takes sequences and tokens from a replica and gives them back once.

A replica may hang while its `/health` answers 200 (vLLM's does). So tokens are watched too: `SILENCES_MAX` requests in
a row that ran into a deadline, without a token of any request between them, and it is **silent**: it gets no work until
one of its running requests, or the health check's probe, is answered with a token.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

SILENCES_MAX = 3


@dataclass(frozen=True, slots=True)
class ReplicaSnapshot:
    """A replica as a routing decision sees it."""

    name: str
    healthy: bool
    free_sequences: int
    inflight_sequences: int
    inflight_tokens: int
    earliest_end_us: int | None
    """Microseconds since the epoch; None when nothing is in flight."""


@dataclass(frozen=True, slots=True, eq=False)
class Lease:
    """A place on a replica, held from turn to settle."""

    sequences: int
    tokens: int
    expected_end_us: int


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
    """What a probe asks for."""
    generates: bool = True
    """Whether it completes texts; one that does not embeds them."""
    abort_path: str = ""
    """Where it aborts requests by their ids; empty where it does not."""
    healthy: bool = False
    """Unknown replicas start unhealthy; the first health check decides."""
    silences: int = 0
    """Deadlines missed in a row, without a token between them."""
    leases: set[Lease] = field(default_factory=set)
    inflight_sequences: int = 0
    inflight_tokens: int = 0

    @property
    def silent(self) -> bool:
        """Whether it hangs, as far as can be told from outside."""
        return self.silences >= SILENCES_MAX

    def spoke(self) -> None:
        """Note a token of any request."""
        self.silences = 0

    def missed(self) -> None:
        """Note a request that ran into a deadline."""
        self.silences += 1

    @contextmanager
    def lease(self, sequences: int, tokens: int, expected_end_us: int) -> Iterator[Lease]:
        """Hold `sequences` places and `tokens` on this replica until the block ends."""
        lease = Lease(sequences, tokens, expected_end_us)
        self.leases.add(lease)
        self.inflight_sequences += sequences
        self.inflight_tokens += tokens
        try:
            yield lease
        finally:
            self.leases.remove(lease)
            self.inflight_sequences -= sequences
            self.inflight_tokens -= tokens

    def snapshot(self) -> ReplicaSnapshot:
        """Return this replica as it stands now."""
        return ReplicaSnapshot(
            name=self.name,
            healthy=self.healthy and not self.silent,
            free_sequences=self.sequences - self.inflight_sequences,
            inflight_sequences=self.inflight_sequences,
            inflight_tokens=self.inflight_tokens,
            earliest_end_us=min((lease.expected_end_us for lease in self.leases), default=None),
        )
