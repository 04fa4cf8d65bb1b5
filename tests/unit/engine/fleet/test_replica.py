from contextlib import suppress

import pytest

from engine.fleet.replica import SILENCES_MAX, STRANGERS_MAX, Replica
from engine.fleet.trouble import HUNG, Trouble


@pytest.fixture
def replica() -> Replica:
    return Replica("r", "http://r", sequences=4)


def test_a_replica_nobody_looked_at_takes_no_work(replica: Replica) -> None:
    assert not replica.snapshot().healthy


def test_leases_take_room_and_give_it_back(replica: Replica) -> None:
    with replica.lease(2, 100, expected_end_us=7_000), replica.lease(1, 50, expected_end_us=5_000):
        full = replica.snapshot()
        assert (full.free_sequences, full.inflight_sequences, full.inflight_tokens) == (1, 3, 150)
        assert full.earliest_end_us == 5_000
    empty = replica.snapshot()
    assert (empty.free_sequences, empty.inflight_sequences, empty.inflight_tokens) == (4, 0, 0)
    assert empty.earliest_end_us is None


def test_a_lease_ends_with_its_block_whatever_happens(replica: Replica) -> None:
    with suppress(RuntimeError), replica.lease(1, 10, expected_end_us=1):
        raise RuntimeError
    assert replica.snapshot().inflight_sequences == 0


def test_leases_of_the_same_size_are_two(replica: Replica) -> None:
    with replica.lease(1, 10, expected_end_us=1):
        with replica.lease(1, 10, expected_end_us=1):
            assert replica.snapshot().inflight_sequences == 2
        assert replica.snapshot().earliest_end_us == 1


def test_deadlines_missed_in_a_row_make_it_silent_and_a_token_ends_that(replica: Replica) -> None:
    replica.healthy = True
    with replica.lease(1, 10, expected_end_us=1) as lease:
        for _ in range(SILENCES_MAX):
            assert replica.snapshot().healthy
            lease.missed()
        assert not replica.snapshot().healthy
        lease.spoke()
        assert replica.snapshot().healthy


def test_whether_answers_have_their_requests_ids_is_shown_by_the_first_that_does(replica: Replica) -> None:
    assert replica.answered(own=False), "an engine with ids of its own is not compared"
    assert replica.answered(own=True)
    assert not replica.answered(own=False)
    assert replica.answered(own=True)
    assert [replica.answered(own=False) for _ in range(STRANGERS_MAX)] == [False] * STRANGERS_MAX
    assert replica.answered(own=False), "there is another engine by now"


def test_what_comes_back_may_have_ids_of_its_own(replica: Replica) -> None:
    replica.answered(own=True)
    replica.came_back()
    assert replica.answered(own=False)


def test_a_probe_ends_a_silence_too(replica: Replica) -> None:
    replica.silences = SILENCES_MAX
    replica.spoke()
    assert not replica.silent


def test_of_another_life_nothing_is_known_and_nothing_is_believed(replica: Replica) -> None:
    with replica.lease(1, 10, expected_end_us=1) as before:
        before.missed()
        replica.came_back()
        assert (replica.life, replica.silences) == (1, 0)
        before.missed()
        assert replica.silences == 0
        with replica.lease(1, 10, expected_end_us=1) as now:
            now.missed()
            before.spoke()
        assert replica.silences == 1


def test_why_it_gets_no_work_is_known_as_soon_as_it_gets_none(replica: Replica) -> None:
    causes = [replica.cause]
    replica.healthy = True
    causes.append(replica.cause)
    replica.stall = "no token"
    causes.append(replica.cause)
    replica.silences, replica.stall = SILENCES_MAX, None
    causes.append(replica.cause)
    replica.lost(Trouble("Connection refused", gone=True))
    assert [*causes, replica.cause] == ["not looked at yet", None, "no token", HUNG.cause, "Connection refused"]
