"""
The question: which replica takes this request?

The rule: of the healthy replicas with room for all of its sequences, the one with the least tokens in flight; ties go
to the fewest sequences, then to the earlier in the config. Whatever the score, the shape stays: snapshots in, one name
or a rejection out.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from policies.rejection import Reason, Rejected

RETRY_AFTER_US_MIN = 1_000_000


class Candidate(Protocol):
    """A replica as a decision sees it; `engine.fleet.replica.ReplicaSnapshot` matches it."""

    @property
    def name(self) -> str:
        """The configured name, unique in its model."""

    @property
    def healthy(self) -> bool:
        """Whether it may be given work."""

    @property
    def free_sequences(self) -> int:
        """How many more sequences it has room for."""

    @property
    def inflight_sequences(self) -> int:
        """Sequences it was given and has not finished."""

    @property
    def inflight_tokens(self) -> int:
        """Tokens reserved by the requests in flight on it."""

    @property
    def earliest_end_us(self) -> int | None:
        """When the first of its requests is expected to end; None when it has none."""


class Job(NamedTuple):
    """What a decision knows of the request that it is about."""

    model: str
    sequences: int
    """How many completions it asks for, over all prompts."""
    tokens: int
    """The most that its prompts and completions can have together."""
    tried: frozenset[str] = frozenset()
    """Replicas that already failed it; they are not asked again."""

    def without(self, replica: str) -> "Job":
        """Return the same request, once another replica has failed it."""
        return self._replace(tried=self.tried | {replica})


def choose(replicas: Sequence[Candidate], job: Job, now_us: int) -> str | Rejected:
    """Return the name of the replica to send a request to, or why there is none."""
    candidates = [replica for replica in replicas if replica.healthy and replica.name not in job.tried]
    chosen: Candidate | None = None
    for replica in candidates:
        if (chosen is None or _load(replica) < _load(chosen)) and _has_room(replica, job.sequences):
            chosen = replica
    if chosen is not None:
        return chosen.name
    if not candidates:
        return Rejected(Reason.NO_REPLICA, RETRY_AFTER_US_MIN, "No healthy replica serves this model now.")
    ends = [end for replica in candidates if (end := replica.earliest_end_us) is not None]
    wait_us = max(RETRY_AFTER_US_MIN, min(ends, default=0) - now_us)
    return Rejected(Reason.QUEUE_FULL, wait_us, "Every replica of this model is full; try again shortly.")


def _load(replica: Candidate) -> tuple[int, int]:
    return replica.inflight_tokens, replica.inflight_sequences


def _has_room(replica: Candidate, sequences: int) -> bool:
    """Give a request that is larger than a whole replica to an idle one, which queues what it cannot run at once."""
    return replica.free_sequences >= sequences or not replica.inflight_sequences
