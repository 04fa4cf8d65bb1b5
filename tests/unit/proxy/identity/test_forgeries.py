"""Turns of tokens to be checked: a budget of processor time, and a fair order where it is used up."""

import asyncio

import pytest

from proxy.errors import TooManyForgeries
from proxy.identity import forgeries as module
from proxy.identity.forgeries import KEPT_MAX, Forgeries, Waiting, _network

HERE, THERE = "192.0.2.1", "192.0.2.2"
ADA, BOB = ("iss", "acme", "ada"), ("iss", "acme", "bob")
EVE = ("iss", "evil", "eve")
COST_US = 100


class Checked:
    """A verifier whose clock a test moves, and to which it sends."""

    def __init__(self, us_per_s: float = 1_000.0, late_s_max: float = 0.05) -> None:
        self.now = 0.0
        self.forgeries = Forgeries(us_per_s, late_s_max=late_s_max, clock=lambda: self.now)

    async def forge(self, address: str = HERE, claimed: tuple[str, str, str] = EVE) -> bool:
        """Send a wrong signature; return whether it was looked at."""
        try:
            await self.forgeries.turn(address, claimed)
        except TooManyForgeries:
            return False
        self.forgeries.wrong(claimed, COST_US)
        return True

    async def verify(self, claimed: tuple[str, str, str], address: str = HERE) -> bool:
        """Send a good token; return whether it was looked at."""
        try:
            await self.forgeries.turn(address, claimed)
        except TooManyForgeries:
            return False
        self.forgeries.right(claimed)
        return True

    async def flooded(self, *, times: int = 30, claimed: tuple[str, str, str] = EVE) -> int:
        """Send wrong signatures at once; return how many were looked at."""
        return sum(await asyncio.gather(*(self.forge(claimed=claimed) for _ in range(times))))


async def test_what_is_forged_costs_its_budget_and_no_more() -> None:
    checked = Checked()
    assert await checked.flooded() == 10
    checked.now += 0.5
    assert await checked.flooded() == 5
    checked.now += 1_000
    assert await checked.flooded() == 10, "what was not used is not saved up"


async def test_at_the_pace_that_is_paid_for_nobody_waits() -> None:
    checked = Checked(late_s_max=0.0)
    for _ in range(1_000):
        checked.now += COST_US / 1_000
        assert await checked.forge()
        assert await checked.verify(BOB)


async def test_good_tokens_cost_nothing() -> None:
    checked = Checked()
    assert all([await checked.verify(("iss", "acme", str(user))) for user in range(1_000)])


async def test_a_user_verified_within_an_hour_never_waits() -> None:
    checked = Checked()
    assert await checked.verify(ADA)
    await checked.flooded()
    assert await checked.verify(ADA)
    assert not await checked.verify(BOB), "who was not waits"
    checked.now += module.VERIFIED_S
    await checked.flooded()
    assert not await checked.verify(ADA)


async def test_who_knows_a_users_name_holds_up_that_user_alone_and_not_for_long() -> None:
    checked = Checked(us_per_s=20_000)
    assert await checked.verify(ADA)
    assert await checked.verify(BOB)
    assert await checked.flooded(times=500, claimed=ADA) < 250
    assert not await checked.verify(ADA)
    assert await checked.verify(BOB)
    checked.now += 60
    await checked.flooded(times=300)
    assert await checked.verify(ADA)


async def test_all_known_names_together_overdraw_the_budget_once() -> None:
    checked = Checked()
    users = [("iss", "acme", str(number)) for number in range(100)]
    for user in users:
        assert await checked.verify(user)
    looked_at = [await checked.forge(claimed=user) for user in users]
    assert sum(looked_at) == 21


async def test_a_waiting_token_has_its_turn_as_the_budget_refills() -> None:
    checked = Checked(late_s_max=5.0)
    flood = [asyncio.create_task(checked.forge()) for _ in range(30)]
    await asyncio.sleep(0)
    honest = asyncio.create_task(checked.verify(BOB, THERE))
    await asyncio.sleep(0)
    checked.now += 0.2
    async with asyncio.timeout(5):
        assert await honest
    assert sum(task.done() for task in flood) < 15, "it was not behind all of the flood"
    for task in flood:
        task.cancel()


async def test_a_waiter_that_leaves_has_no_turn() -> None:
    checked = Checked()
    await checked.flooded()
    waiting = asyncio.create_task(checked.verify(BOB))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.sleep(0.03)
    checked.now += 1
    assert await checked.flooded() == 10


def turns(waiting: Waiting, *senders: tuple[str, str]) -> list["asyncio.Future[None]"]:
    loop = asyncio.get_running_loop()
    made = [loop.create_future() for _ in senders]
    for (address, tenant), turn in zip(senders, made, strict=True):
        assert waiting.enter(address, tenant, turn)
    return made


async def test_addresses_take_turns_and_tenants_within_them() -> None:
    waiting = Waiting()
    flood = turns(waiting, *[(HERE, "evil")] * 3)
    [honest] = turns(waiting, (HERE, "acme"))
    [other] = turns(waiting, (THERE, "evil"))
    order = [waiting.next() for _ in range(5)]
    assert order == [flood[0], other, honest, flood[1], flood[2]]
    assert (waiting.next(), bool(waiting)) == (None, False)


async def test_who_waits_no_longer_has_no_turn() -> None:
    waiting = Waiting()
    first, second = turns(waiting, (HERE, "a"), (HERE, "a"))
    first.cancel()
    assert waiting.next() is second


async def test_so_many_wait_and_one_address_or_tenant_leaves_room_for_others() -> None:
    waiting = Waiting(waiting_max=8)
    loop = asyncio.get_running_loop()

    def entered(address: str, tenant: str) -> int:
        return sum(waiting.enter(address, tenant, loop.create_future()) for _ in range(20))

    assert entered(HERE, "evil") == 8
    assert entered(THERE, "evil") == 4
    assert entered(HERE, "acme") == 2
    assert entered(THERE, "acme") == 2
    assert entered("192.0.2.3", "acme") == 2


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
    assert (_network(one) == _network(other)) is same


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KEPT_MAX", 100)
    assert KEPT_MAX > 100_000
    checked = Checked(us_per_s=10**9)
    for number in range(300):
        await checked.verify(("iss", "acme", str(number)))
        await checked.forge(claimed=("iss", "acme", str(number)))
    assert len(checked.forgeries._verified) == len(checked.forgeries._abused) == 100
