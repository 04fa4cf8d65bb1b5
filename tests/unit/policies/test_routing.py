from dataclasses import dataclass, replace

import pytest

from engine.fleet.replica import Replica
from policies.rejection import Reason, Rejected
from policies.routing import RETRY_AFTER_US_MIN, Job, choose

NOW_US = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A replica as this test describes it."""

    name: str
    healthy: bool = True
    free_sequences: int = 4
    inflight_sequences: int = 0
    inflight_tokens: int = 0
    earliest_end_us: int | None = None


def job(sequences: int, *tried: str) -> Job:
    """Return a request of this many sequences that these replicas have failed."""
    return Job("demo", sequences, 100, frozenset(tried))


A, B, C = Snapshot("a"), Snapshot("b"), Snapshot("c")


@pytest.mark.parametrize(
    ("replicas", "sequences", "tried", "chosen"),
    [
        ([replace(A, inflight_tokens=10), replace(B, inflight_tokens=9)], 1, (), "b"),
        ([replace(A, inflight_sequences=2), replace(B, inflight_sequences=1)], 1, (), "b"),
        ([B, A, C], 1, (), "b"),
        ([replace(A, healthy=False), replace(B, inflight_tokens=9)], 1, (), "b"),
        ([replace(A, free_sequences=0, inflight_sequences=4), replace(B, inflight_tokens=9)], 1, (), "b"),
        ([replace(A, free_sequences=2, inflight_sequences=2), replace(B, inflight_tokens=9)], 3, (), "b"),
        ([replace(A, free_sequences=3, inflight_sequences=1), replace(B, inflight_tokens=9)], 3, (), "a"),
        ([A, replace(B, inflight_tokens=9)], 1, ("a",), "b"),
    ],
    ids=[
        "least tokens",
        "then fewest sequences",
        "then first in the config",
        "healthy",
        "with room",
        "with room for all sequences",
        "room for exactly all",
        "not yet tried",
    ],
)
def test_the_choice(replicas: list[Snapshot], sequences: int, tried: tuple[str, ...], chosen: str) -> None:
    assert choose(replicas, job(sequences, *tried), NOW_US) == chosen


@pytest.mark.parametrize(
    ("replicas", "tried"),
    [([], ()), ([replace(A, healthy=False)], ()), ([A], ("a",)), ([A, replace(B, healthy=False)], ("a",))],
    ids=["none", "none healthy", "all tried", "all tried or down"],
)
def test_without_a_candidate_there_is_no_replica(replicas: list[Snapshot], tried: tuple[str, ...]) -> None:
    rejected = choose(replicas, job(1, *tried), NOW_US)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.retry_after_us) == (Reason.NO_REPLICA, RETRY_AFTER_US_MIN)


@pytest.mark.parametrize(
    ("ends_in_us", "wait_us"),
    [
        ((5_000_000, 3_000_000), 3_000_000),
        ((5_000_000, 1_000), RETRY_AFTER_US_MIN),
        ((-2_000_000, -1_000_000), RETRY_AFTER_US_MIN),
    ],
    ids=["the first end", "never under a second", "an end that is overdue"],
)
def test_full_replicas_tell_when_the_first_place_is_free(ends_in_us: tuple[int, int], wait_us: int) -> None:
    full = [
        Snapshot(name, free_sequences=0, inflight_sequences=4, earliest_end_us=NOW_US + end)
        for name, end in zip("ab", ends_in_us, strict=True)
    ]
    rejected = choose(full, job(1), NOW_US)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.retry_after_us) == (Reason.QUEUE_FULL, wait_us)


def test_more_sequences_than_any_replica_has_go_to_an_idle_one() -> None:
    busy = replace(A, free_sequences=3, inflight_sequences=1, earliest_end_us=NOW_US + 2_000_000)
    assert choose([busy, B], job(5), NOW_US) == "b"
    rejected = choose([busy], job(5), NOW_US)
    assert isinstance(rejected, Rejected)
    assert (rejected.reason, rejected.retry_after_us) == (Reason.QUEUE_FULL, 2_000_000)


def test_a_real_replica_is_chosen_by_what_it_holds() -> None:
    idle, busy = (Replica(name, f"http://{name}", sequences=2, healthy=True) for name in ("idle", "busy"))
    with busy.lease(1, 100, NOW_US):
        assert choose([busy.snapshot(), idle.snapshot()], job(1), NOW_US) == "idle"
        assert choose([busy.snapshot()], job(1), NOW_US) == "busy"
    with busy.lease(2, 100, NOW_US + 7_000_000):
        rejected = choose([busy.snapshot()], job(1), NOW_US)
        assert isinstance(rejected, Rejected)
        assert rejected.retry_after_us == 7_000_000


def test_who_failed_a_job_is_remembered_with_it() -> None:
    first = job(2)
    assert first.without("a").without("b") == job(2, "a", "b")
    assert first.tried == frozenset()
