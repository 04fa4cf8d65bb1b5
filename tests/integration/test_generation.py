"""A Redis that came back without its data is not "0 used": it takes nothing until an operator accepts the loss."""

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from policies.quota import Ask, Granted, Limit, Per, Scope, Subject, Unit
from proxy.cli.main import tollway
from proxy.errors import LedgerEmptied
from proxy.redis.client import RedisClient
from proxy.store import keys, ledger
from proxy.store.membership import generation
from proxy.store.membership.incarnation import Incarnation, tenants
from proxy.store.redis_reservations import RedisReservations
from tests.records import RECORD

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 100_000, Per.DAY),)
SUBJECT = Subject(tenant=RECORD.tenant, user=RECORD.user, model=RECORD.model)
ASK = Ask(prompt_tokens=100, choices=1, max_completion=900, min_completion=256, hold_us=5_000_000)


class Gateway:
    """One gateway's memory of its Redis."""

    def __init__(self, connection: RedisClient, memory: Path | None = None) -> None:
        self.connection = connection
        self.incarnation = Incarnation(connection, memory=memory)
        self.store = RedisReservations(connection, self.incarnation)

    async def beat(self, times: int = 1) -> "Gateway":
        for _ in range(times):
            await self.incarnation.beat()
        return self

    async def admits(self) -> bool:
        try:
            return isinstance(await self.store.reserve(RECORD, LIMITS, ASK), Granted)
        except LedgerEmptied:
            return False

    @property
    def lost(self) -> bool:
        return self.incarnation.generation.lost


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Redis have everything on disk at once."""
    monkeypatch.setattr(generation, "ON_DISK_AFTER_S", 0.0)


@pytest.fixture
async def gateway(connection: RedisClient, at_once: None) -> Gateway:
    return await Gateway(connection).beat()


async def accept(gateway: Gateway) -> generation.Loss:
    return await generation.accept(gateway.connection, "")


async def test_an_empty_redis_that_nobody_remembers_is_a_first_start(gateway: Gateway) -> None:
    assert await gateway.admits()
    assert await gateway.connection.call("GET", keys.GENERATION) == gateway.incarnation.generation.value


async def test_nothing_is_reserved_in_the_very_moment_after_the_loss(gateway: Gateway) -> None:
    assert await gateway.admits()
    await gateway.connection.call("FLUSHALL")
    assert not await gateway.admits(), "no beat has looked yet"
    assert gateway.lost
    assert await gateway.connection.call("EXISTS", keys.reservation(RECORD.tenant, RECORD.request_id)) == 0


async def test_a_settle_into_an_emptied_redis_is_held_until_the_loss_is_accepted(gateway: Gateway) -> None:
    await gateway.admits()
    await gateway.connection.call("FLUSHALL")
    for settle in (gateway.store.settle, gateway.store.append_late):
        with pytest.raises(LedgerEmptied):
            await settle(RECORD, LIMITS)
    with pytest.raises(LedgerEmptied):
        await gateway.store.statuses(SUBJECT, LIMITS)
    assert (await accept(gateway)).generations == (gateway.incarnation.generation.value,)
    await gateway.beat()
    assert (await gateway.store.settle(RECORD, LIMITS)).ours
    [status] = await gateway.store.statuses(SUBJECT, LIMITS)
    assert status.used == 131
    assert [entry.record async for entry in ledger.read(gateway.connection, ["acme"], 0, ledger.NEVER_US)] == [RECORD]


async def test_one_command_is_enough_for_a_fleet(
    gateway: Gateway, connection: RedisClient, caplog: pytest.LogCaptureFixture
) -> None:
    other = await Gateway(connection).beat()
    for _ in range(2):
        caplog.clear()
        await gateway.connection.call("FLUSHALL")
        for each in (gateway, other):
            await each.beat(2)
            assert (each.lost, await each.admits()) == (True, False)
        lines = [line for line in caplog.records if line.levelno == logging.ERROR]
        assert len(lines) == 2, "each tells it once"
        await accept(gateway)
        for each in (gateway, other):
            await each.beat()
            assert await each.admits()
    assert gateway.incarnation.generation.value == other.incarnation.generation.value


async def test_a_gateway_that_slept_through_two_losses_goes_on(gateway: Gateway, connection: RedisClient) -> None:
    asleep = await Gateway(connection).beat()
    slept_from = asleep.incarnation.generation.value
    await connection.call("FLUSHALL")
    await gateway.beat()
    await accept(gateway)
    await gateway.beat()
    assert (await connection.call("GET", keys.GENERATION)).split()[1:] == [slept_from]
    await asleep.beat()
    assert not asleep.lost
    assert await asleep.admits()


async def test_another_redis_is_foreign(gateway: Gateway, connection: RedisClient) -> None:
    await connection.call("FLUSHALL")
    fresh = await Gateway(connection).beat()
    assert not fresh.lost
    await gateway.beat()
    assert gateway.lost
    await accept(gateway)
    await gateway.beat()
    assert await gateway.admits()
    assert await fresh.admits()


async def test_who_remembers_nothing_writes_no_epoch_where_others_miss_theirs(
    gateway: Gateway, connection: RedisClient
) -> None:
    await connection.call("FLUSHALL")
    await gateway.beat()
    fresh = await Gateway(connection).beat()
    assert fresh.lost
    assert not await fresh.admits()
    await accept(gateway)
    await fresh.beat()
    assert await fresh.admits()


async def test_the_next_start_remembers_too(connection: RedisClient, at_once: None, tmp_path: Path) -> None:
    memory = generation.file_of(tmp_path)
    first = await Gateway(connection, memory).beat()
    assert generation.remembered(tmp_path) == first.incarnation.generation.value
    await connection.call("FLUSHALL")
    second = await Gateway(connection, memory).beat()
    assert second.lost
    await generation.accept(connection, generation.remembered(tmp_path))
    await second.beat()
    assert await second.admits()
    assert generation.remembered(tmp_path) == second.incarnation.generation.value != first.incarnation.generation.value


async def test_what_redis_may_not_have_on_disk_yet_is_written_again(connection: RedisClient, tmp_path: Path) -> None:
    memory = generation.file_of(tmp_path)
    first = await Gateway(connection, memory).beat(2)
    value = first.incarnation.generation.value
    assert not memory.exists()
    await connection.call("FLUSHALL")
    assert await first.admits()
    assert await connection.call("GET", keys.GENERATION) == value


async def test_a_folder_that_cannot_be_written_stops_no_beat(
    connection: RedisClient, at_once: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    gateway = await Gateway(connection, tmp_path / "file" / "epoch").beat(3)
    assert await gateway.admits()
    assert [line.message for line in caplog.records] == ["epoch_not_written_down"]


async def test_a_tenant_whose_data_is_gone_is_refused_alone(gateway: Gateway, connection: RedisClient) -> None:
    await gateway.admits()
    await gateway.incarnation.serve("globex")
    await connection.call("DEL", keys.generation("acme"))
    assert not await gateway.admits()
    assert not gateway.lost
    await gateway.incarnation.serve_again("globex")
    assert (await accept(gateway)) == generation.Loss((), ("acme",))
    assert await gateway.admits()


async def test_data_from_before_there_were_epochs_is_taken_over(connection: RedisClient) -> None:
    await connection.call("SADD", keys.TENANTS, "acme", "globex")
    gateway = await Gateway(connection).beat()
    assert await gateway.admits()
    assert await tenants(connection) == ["acme", "globex"]


def test_the_operators_command(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__REDIS__URL", redis_url)
    monkeypatch.setenv("TOLLWAY__REDIS__DATA_DIR", str(tmp_path))
    generation.file_of(tmp_path).write_text("01OLD\n")
    runner = CliRunner()
    refused = runner.invoke(tollway, ["ledger", "accept-empty"], input="n\n")
    assert refused.exit_code == 1
    assert "Every quota counts from 0 again" in refused.output
    accepted = runner.invoke(tollway, ["ledger", "accept-empty", "--yes"])
    assert (accepted.exit_code, accepted.output.splitlines()[0]) == (0, "Accepted: the data of epoch '01OLD' is lost.")
    again = runner.invoke(tollway, ["ledger", "accept-empty", "--yes"])
    assert again.output == "No gateway misses any data; nothing was given up.\n"
