"""Replicas that come and go while others work: who is given work, who is watched, who is told to have left."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.fleet import fleet as module
from engine.fleet import health
from engine.fleet.fleet import Fleet, Placement
from engine.fleet.replica import Replica
from engine.wire.client import UpstreamResponse
from tests.unit.engine.fleet.test_health import _Answer
from tests.unit.proxy.gateway import until


class Servers:
    """An `engine.wire.client.Upstream` of which those at some URLs answer."""

    def __init__(self, *down: str) -> None:
        self.down = set(down)
        self.looks: list[str] = []

    @asynccontextmanager
    async def request(self, method: str, url: str, **_: Any) -> AsyncIterator[UpstreamResponse]:
        server = url.removesuffix("/health")
        self.looks.append(server)
        await asyncio.sleep(0)
        yield _Answer(503 if server in self.down else 200)


class Told:
    """A witness that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.inflight: dict[str, Callable[[], int]] = {}

    def joined(self, replica: Replica, inflight: Callable[[], int]) -> None:
        self.told.append(("joined", replica.name))
        self.inflight[replica.name] = inflight

    def changed(self, replica: Replica) -> None:
        self.told.append(("up" if replica.healthy else "down", replica.name))

    def stalled(self, replica: Replica) -> None:
        self.told.append(("stalled" if replica.stall else "goes on", replica.name))

    def left(self, replica: Replica) -> None:
        self.told.append(("left", replica.name))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LEFT_POLL_S", 0)
    monkeypatch.setattr(health, "INTERVAL_S", 0)


def at(name: str, url: str = "", **changes: Any) -> Placement:
    usual: dict[str, Any] = {"model": "m", "name": name, "url": url or f"http://{name}", "sequences": 4}
    return Placement(**usual | changes)


async def rearranged(fleet: Fleet, *wanted: Placement) -> None:
    fleet.arrange(await fleet.look(wanted))


def names(fleet: Fleet, model: str = "m") -> list[str]:
    return [replica.name for replica in fleet.pools[model]] if model in fleet.pools else []


async def test_who_is_wanted_is_looked_at_before_it_is_given_work() -> None:
    told = Told()
    async with Fleet(Servers("http://b"), told) as fleet:
        arrangement = await fleet.look([at("a"), at("b"), at("c", model="other")])
        assert dict(fleet.pools) == {}
        fleet.arrange(arrangement)
        assert [(replica.name, replica.healthy) for replica in fleet.pools["m"]] == [("a", True), ("b", False)]
        assert names(fleet, "other") == ["c"]
    assert told.told[:4] == [("joined", "a"), ("up", "a"), ("joined", "b"), ("down", "b")]


async def test_one_that_is_wanted_no_longer_leaves_when_its_last_request_has_ended() -> None:
    servers, told = Servers(), Told()
    async with Fleet(servers, told) as fleet:
        await rearranged(fleet, at("a"), at("b"))
        leaving = fleet.pools["m"]["b"]
        with leaving.lease(2, 10, expected_end_us=1):
            await rearranged(fleet, at("a"))
            assert names(fleet) == ["a"]
            assert fleet.pools["m"].leaving == {leaving}
            assert told.inflight["b"]() == 1
            for _ in range(50):
                await asyncio.sleep(0)
            assert ("left", "b") not in told.told
        await until(lambda: told.told[-1] == ("left", "b"))
        assert fleet.pools["m"].leaving == set()
        looked = servers.looks.count("http://b")
        await until(lambda: servers.looks[-5:].count("http://a") == 5)
        assert servers.looks.count("http://b") <= looked + 1, "nobody looks at it any more"


async def test_one_that_stays_keeps_what_is_known_of_it_and_takes_what_was_changed() -> None:
    told = Told()
    async with Fleet(Servers(), told) as fleet:
        await rearranged(fleet, at("a"))
        stays = fleet.pools["m"]["a"]
        with stays.lease(3, 10, expected_end_us=1) as lease:
            lease.missed()
            await rearranged(fleet, at("a", sequences=9, group="canary", abort_path="/abort_requests", generates=False))
            assert fleet.pools["m"]["a"] is stays
            assert stays.snapshot().free_sequences == 6
        assert (stays.group, stays.abort_path, stays.generates) == ("canary", "/abort_requests", False)
        assert stays.silences == 1
    assert told.told == [("joined", "a"), ("up", "a")]


async def test_one_that_moves_is_another_under_the_same_name_and_never_told_to_have_left() -> None:
    told = Told()
    async with Fleet(Servers("http://old"), told) as fleet:
        await rearranged(fleet, at("a", "http://old"))
        old = fleet.pools["m"]["a"]
        with old.lease(1, 10, expected_end_us=1):
            await rearranged(fleet, at("a", "http://new"))
            new = fleet.pools["m"]["a"]
            assert (new.url, new.healthy) == ("http://new", True)
            with new.lease(1, 10, expected_end_us=1):
                assert told.inflight["a"]() == 2
            old.healthy = True
            fleet.changed(old)
        await until(lambda: not fleet.pools["m"].leaving)
    assert told.told == [("joined", "a"), ("down", "a"), ("joined", "a"), ("up", "a")]


async def test_one_that_is_wanted_again_before_it_has_left_stays() -> None:
    told = Told()
    async with Fleet(Servers(), told) as fleet:
        await rearranged(fleet, at("a"), at("b"))
        b = fleet.pools["m"]["b"]
        with b.lease(1, 10, expected_end_us=1):
            await rearranged(fleet, at("a"))
            await rearranged(fleet, at("b"), at("a"))
            assert fleet.pools["m"]["b"] is b
            assert names(fleet) == ["b", "a"]
        for _ in range(50):
            await asyncio.sleep(0)
        assert ("left", "b") not in told.told
        assert fleet.pools["m"].leaving == set()


async def test_one_that_has_left_between_the_look_and_the_change_comes_back() -> None:
    told = Told()
    async with Fleet(Servers(), told) as fleet:
        await rearranged(fleet, at("a"), at("b"))
        await rearranged(fleet, at("a"))
        arrangement = await fleet.look([at("a"), at("b")])
        await until(lambda: ("left", "b") in told.told)
        fleet.arrange(arrangement)
        assert names(fleet) == ["a", "b"]
    assert told.told[-2:] == [("joined", "b"), ("up", "b")]


async def test_a_model_that_is_wanted_no_longer_has_its_pool_until_all_have_left() -> None:
    told = Told()
    async with Fleet(Servers(), told) as fleet:
        await rearranged(fleet, at("a"), at("s", model="second"))
        with fleet.pools["second"]["s"].lease(1, 10, expected_end_us=1):
            await rearranged(fleet, at("a"))
            assert (names(fleet, "second"), len(fleet.pools["second"].leaving)) == ([], 1)
        await until(lambda: "second" not in fleet.pools)
    assert told.told[-1] == ("left", "s")


async def test_nothing_goes_on_behind_the_block() -> None:
    async with Fleet(Servers(), Told()) as fleet:
        await rearranged(fleet, at("a"), at("b"))
        lease = fleet.pools["m"]["b"].lease(1, 10, expected_end_us=1)
        lease.__enter__()
        await rearranged(fleet, at("a"))
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
