"""Bytes of bodies are counted over all requests, and given back however a request ends."""

from contextlib import ExitStack, suppress

import pytest

from proxy.edge.bodies import PARTS, Bodies, Owner, Parts, Share
from proxy.errors import ApiError, Code


def test_there_is_room_for_so_many_bytes_and_no_more() -> None:
    bodies = Bodies()
    with bodies.share(10) as one, bodies.share(10) as other:
        one.take(4)
        one.take(4)
        with pytest.raises(ApiError) as caught:
            other.take(3)
        assert (caught.value.code, caught.value.retry_after_s) == (Code.OVERLOADED, 1)
        other.take(2)
    assert bodies.held == 0


def test_a_fault_gives_back_too() -> None:
    bodies = Bodies()
    with suppress(LookupError), bodies.share(10) as one:
        one.take(10)
        raise LookupError
    assert bodies.held == 0


# --- whose they are

MIB = 2**20
ROOM = 1_024 * MIB
ADA, BOB, EVE = ("acme", "ada"), ("acme", "bob"), ("globex", "eve")


class Held:
    """Requests that hold what they can."""

    def __init__(self, parts: Parts = PARTS) -> None:
        self.bodies = Bodies()
        self._parts = parts
        self._open = ExitStack()

    def begun(self, owner: Owner) -> Share:
        """Return a request's share."""
        share = self._open.enter_context(self.bodies.share(ROOM, self._parts))
        share.owner = owner
        return share

    def fill(self, owner: Owner, size: int = MIB) -> int:
        """Hold bodies of one size until one is refused; return how much is held then."""
        with suppress(ApiError):
            while True:
                self.begun(owner).take(size)
        return self.bodies.of(owner)

    def end(self) -> None:
        """End all requests."""
        self._open.close()


def test_a_user_holds_a_part_and_is_told_so() -> None:
    held = Held()
    assert held.fill(ADA) == ROOM // 8
    with pytest.raises(ApiError) as caught:
        held.begun(ADA).take(MIB)
    assert (caught.value.code, caught.value.status, caught.value.retry_after_s) == (
        Code.CONCURRENCY_LIMIT_EXCEEDED,
        429,
        1,
    )
    assert f"this user's requests and answers hold {ROOM // 8} bytes" in caught.value.message
    held.begun(BOB).take(10 * MIB)
    held.begun(EVE).take(10 * MIB)


def test_a_tenant_holds_a_part_however_many_users_it_has() -> None:
    held = Held()
    for user in range(1_000):
        held.fill(("acme", str(user)), 10 * MIB)
    assert held.bodies.of("acme") <= ROOM // 4
    assert held.fill(EVE) >= ROOM // 12


@pytest.mark.parametrize("tenants", [2, 5, 10])
def test_tenants_together_leave_room_for_one_who_comes(tenants: int) -> None:
    held = Held()
    for tenant in range(tenants):
        for user in range(50):
            held.fill((str(tenant), str(user)))
    assert ROOM - held.bodies.held >= ROOM * 0.75**tenants
    held.begun(EVE).take(10 * MIB)


def test_one_body_is_never_too_much_for_its_owner() -> None:
    held = Held(Parts(0.01, 0.01))
    one = held.begun(ADA)
    for _ in range(100):
        one.take(MIB)
    with pytest.raises(ApiError):
        held.begun(ADA).take(MIB)


def test_small_bodies_are_nobodys() -> None:
    held = Held()
    held.fill(ADA)
    held.begun(ADA).take(16 * 1_024)
    grows = held.begun(ADA)
    grows.take(16 * 1_024)
    with pytest.raises(ApiError):
        grows.take(1)


def test_all_is_given_back_and_nobody_is_remembered() -> None:
    held = Held()
    for owner in (ADA, BOB, EVE):
        held.fill(owner)
    held.end()
    assert held.bodies == Bodies()


# --- answers


def test_room_for_an_answer_is_taken_before_and_what_it_does_not_need_is_given_back() -> None:
    held = Held()
    one = held.begun(ADA)
    one.take(MIB)
    one.expect(50 * MIB)
    assert (held.bodies.held, held.bodies.of(ADA)) == (51 * MIB, 51 * MIB)
    assert one.has_room(50 * MIB)
    one.keep(3 * MIB)
    assert (held.bodies.held, held.bodies.of("acme")) == (4 * MIB, 4 * MIB)
    one.expect(5 * MIB)
    assert held.bodies.held == 6 * MIB
    held.end()
    assert held.bodies == Bodies()


def test_answers_are_a_part_of_what_their_user_may_hold() -> None:
    held = Held()
    for _ in range(2):
        held.begun(ADA).expect(64 * MIB)
    with pytest.raises(ApiError) as caught:
        held.begun(ADA).expect(64 * MIB)
    assert caught.value.code is Code.CONCURRENCY_LIMIT_EXCEEDED
    held.begun(EVE).expect(64 * MIB)


def test_an_answer_that_no_user_could_hold_is_taken_as_it_comes() -> None:
    held = Held(Parts(0.1, 0.1))
    one = held.begun(ADA)
    one.expect(ROOM * 2)
    assert held.bodies.held <= ROOM // 100
    assert one.has_room(ROOM // 2)
    assert held.bodies.held == ROOM // 2
    assert not one.has_room(ROOM + 1)


def test_a_small_answer_takes_no_room_and_a_large_one_does() -> None:
    held = Held()
    one = held.begun(ADA)
    assert one.has_room(64 * 1_024)
    one.keep(64 * 1_024)
    assert held.bodies == Bodies()
    assert one.has_room(MIB)
    assert held.bodies.of(ADA) == MIB
