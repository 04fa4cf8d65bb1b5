from itertools import count

import pytest

from policies.quota import Limit, Per, Scope, Unit
from proxy.identity.forgeries import KEPT_MAX, Forgeries

HERE, THERE = "192.0.2.1", "192.0.2.2"
ADA, BOB = ("iss", "acme", "ada"), ("iss", "acme", "bob")
OF_ONE = Limit(Scope.USER, Unit.REQUESTS, 6, Per.MINUTE)
OF_ALL = Limit(Scope.USER, Unit.REQUESTS, 20, Per.MINUTE)
SECOND = 1_000_000


def flood(forgeries: Forgeries, address: str, claimed: tuple[str, str, str] = BOB, *, now_us: int = 0) -> int:
    """Send wrong signatures until one has to wait; return how many were looked at."""
    for sent in count():
        if forgeries.wait_us(address, claimed, now_us):
            return sent
        forgeries.wrong(address, claimed, now_us)
    raise AssertionError


def test_an_address_has_so_many_wrong_signatures_and_then_its_pace() -> None:
    forgeries = Forgeries(OF_ONE, OF_ALL)
    assert flood(forgeries, HERE) == 6
    assert forgeries.wait_us(HERE, BOB, 0) == 10 * SECOND
    assert forgeries.wait_us(HERE, BOB, 10 * SECOND) == 0
    assert flood(forgeries, HERE, now_us=10 * SECOND) == 1
    assert flood(forgeries, HERE, now_us=1_000 * SECOND) == 6, "what was not sent is not saved up"


def test_another_address_is_not_held_up() -> None:
    forgeries = Forgeries(OF_ONE, OF_ALL)
    flood(forgeries, HERE)
    assert forgeries.wait_us(THERE, BOB, 0) == 0


def test_many_addresses_share_one_pace() -> None:
    forgeries = Forgeries(OF_ONE, OF_ALL)
    assert sum(flood(forgeries, f"192.0.2.{number}") for number in range(10)) == 20


def test_who_was_verified_lately_is_not_held_up_by_strangers_behind_the_same_address() -> None:
    forgeries = Forgeries(OF_ONE, OF_ALL)
    forgeries.right(ADA)
    for number in range(10):
        flood(forgeries, f"192.0.2.{number}")
    assert forgeries.wait_us(HERE, ADA, 0) == 0
    assert forgeries.wait_us(HERE, BOB, 0) > 0


def test_who_knows_a_users_name_can_hold_up_that_user_at_his_own_address_alone() -> None:
    forgeries = Forgeries(OF_ONE, Limit(Scope.USER, Unit.REQUESTS, 1000, Per.MINUTE))
    forgeries.right(ADA)
    assert flood(forgeries, HERE, ADA) == 6
    assert forgeries.wait_us(THERE, ADA, 0) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("", "", True),
        ("not an address", "192.0.2.1", False),
    ],
)
def test_a_sender_is_an_address_or_an_ipv6_network(*, one: str, other: str, same: bool) -> None:
    forgeries = Forgeries(OF_ONE, OF_ALL)
    flood(forgeries, one)
    assert (forgeries.wait_us(other, BOB, 0) > 0) is same


def test_what_is_remembered_is_bounded() -> None:
    forgeries = Forgeries(OF_ONE, Limit(Scope.USER, Unit.REQUESTS, 10**9, Per.MINUTE))
    for number in range(KEPT_MAX + 10):
        forgeries.wrong(str(number), BOB, 0)
        forgeries.right(("iss", "acme", str(number)))
    assert len(forgeries._by_sender) == len(forgeries._honest) == KEPT_MAX
