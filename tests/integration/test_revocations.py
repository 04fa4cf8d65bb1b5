"""The list of what is revoked, in a real Redis: every gateway has it within a second, and keeps it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy.cli.main import tollway
from proxy.errors import LedgerUnavailable
from proxy.identity.principal import Principal
from proxy.identity.revocation import REVOCATIONS_MAX, Origin, RevocationKind, Revoked, RevokedSubject
from proxy.redis.client import RedisClient
from proxy.store import keys
from proxy.store import revocations as store
from proxy.store.revocations import Revocations, TooManyRevocations, lift, revocations, revoke
from tests.issuer import wait_until

USER, TENANT = RevokedSubject(RevocationKind.USER, "ada", "acme"), RevokedSubject(RevocationKind.TENANT, "acme")
HOSTILE = RevokedSubject(RevocationKind.USER, "{acme}:*\r\n%/../é🙂 version", "a b")
ADA = Origin("iss", Principal("acme", "ada", "pro"), "t1", None)


async def refused(connection: RedisClient, origin: Origin = ADA) -> bool:
    """Tell what a gateway that starts now thinks of a token."""
    revoked = Revoked()
    async with Revocations(connection, revoked):
        return revoked.refuses(origin, 0)


async def test_what_is_revoked_is_refused_until_it_is_lifted(connection: RedisClient) -> None:
    assert not await refused(connection)
    for subject in (USER, TENANT, RevokedSubject(RevocationKind.JTI, "t1", "iss")):
        await revoke(connection, subject, None)
        assert await refused(connection)
        assert await lift(connection, subject)
        assert not await refused(connection)
        assert not await lift(connection, subject)


async def test_running_gateways_hear_of_it(connection: RedisClient) -> None:
    one, two = Revoked(), Revoked()
    async with Revocations(connection, one, poll_s=0.01), Revocations(connection, two, poll_s=0.01):
        await revoke(connection, USER, None)
        await wait_until(lambda: one.refuses(ADA, 0) and two.refuses(ADA, 0))
        await lift(connection, USER)
        await wait_until(lambda: not one.refuses(ADA, 0) and not two.refuses(ADA, 0))


async def test_a_poll_reads_the_list_only_when_it_changed(redis_url: str) -> None:
    calls = list[str]()
    async with RedisClient(redis_url, deadline_s=20, observe=lambda op, _: calls.append(op)) as connection:
        await revoke(connection, USER, None)
        calls.clear()
        async with Revocations(connection, Revoked(), poll_s=60) as polled:
            for _ in range(5):
                await polled.poll()
    assert calls == ["hget", "hgetall", *["hget"] * 5]


async def test_the_list_tells_who_since_when_and_until_when(connection: RedisClient) -> None:
    first = await revoke(connection, HOSTILE, 2**50)
    second = await revoke(connection, TENANT, None)
    assert await revocations(connection) == [second, first]
    assert (first.subject, first.until_us, second.until_us) == (HOSTILE, 2**50, None)
    again = await revoke(connection, HOSTILE, None)
    assert again.at_us > first.at_us
    assert await revocations(connection) == [again, second]


async def test_a_redis_that_lost_its_memory_is_told_again(connection: RedisClient) -> None:
    revoked = Revoked()
    async with Revocations(connection, revoked, poll_s=60) as polled:
        known = [await revoke(connection, USER, None), await revoke(connection, HOSTILE, 2**50)]
        await polled.poll()
        await connection.call("FLUSHALL")
        await polled.poll()
        assert revoked.refuses(ADA, 0)
        assert sorted(await revocations(connection), key=str) == sorted(known, key=str)
        await polled.poll()
        await lift(connection, USER)
        await polled.poll()
        assert not revoked.refuses(ADA, 0)
        assert (await revocations(connection))[0].subject == HOSTILE


async def test_a_redis_that_lost_its_last_second_is_told_again(connection: RedisClient) -> None:
    revoked = Revoked()
    async with Revocations(connection, revoked, poll_s=60) as polled:
        await revoke(connection, TENANT, None)
        kept = await connection.call("HGETALL", keys.REVOKED)
        lost = await revoke(connection, USER, None)
        await polled.poll()
        await connection.call("DEL", keys.REVOKED)
        await connection.call("HSET", keys.REVOKED, *(part for pair in kept.items() for part in pair))
        await polled.poll()
        await polled.poll()
        assert {each.subject for each in revoked} == {TENANT, USER}
        assert lost in await revocations(connection)


async def test_what_redis_lost_is_put_back_at_once_and_later_changes_stand(connection: RedisClient) -> None:
    """No other gateway may read half a list; what was revoked since, or by another gateway put back, is kept."""
    revoked, other = Revoked(), Revoked()
    for number in range(500):
        await revoke(connection, RevokedSubject(RevocationKind.USER, str(number), "acme"), None)
    async with (
        Revocations(connection, revoked, poll_s=60) as polled,
        Revocations(connection, other, poll_s=60) as late,
    ):
        await connection.call("DEL", keys.REVOKED)
        newer = await revoke(connection, RevokedSubject(RevocationKind.USER, "7", "acme"), None)
        await connection.call("HSET", keys.REVOKED, "version", 1)
        await polled.poll()
        await late.poll()
        for listed in (revoked, other):
            assert len(list(listed)) == 500
            assert newer in list(listed)


async def test_versions_grow_even_when_the_clock_ran_back(connection: RedisClient) -> None:
    await revoke(connection, USER, None)
    await connection.call("HSET", keys.REVOKED, "version", 2**52)
    for change in (revoke(connection, TENANT, None), lift(connection, USER), lift(connection, USER)):
        before = int(await connection.call("HGET", keys.REVOKED, "version"))
        await change
        assert int(await connection.call("HGET", keys.REVOKED, "version")) == before + 1


async def test_a_list_that_was_emptied_by_lifting_stays_empty(connection: RedisClient) -> None:
    revoked = Revoked()
    async with Revocations(connection, revoked, poll_s=60) as polled:
        await revoke(connection, USER, None)
        await polled.poll()
        await lift(connection, USER)
        await polled.poll()
        await polled.poll()
        assert not revoked.refuses(ADA, 0)
    assert await revocations(connection) == []


async def test_while_redis_is_away_the_last_list_holds(redis_url: str) -> None:
    revoked = Revoked()
    async with RedisClient(redis_url, deadline_s=1) as slow, RedisClient(redis_url, deadline_s=20) as other:
        await revoke(other, USER, None)
        async with Revocations(slow, revoked, poll_s=0.01):
            version = revoked.version
            await other.call("CLIENT", "PAUSE", 3_000, "ALL")
            with pytest.raises(LedgerUnavailable):
                await slow.call("PING")
            assert revoked.refuses(ADA, 0)
            await lift(other, USER)
            await wait_until(lambda: revoked.version != version)
            assert not revoked.refuses(ADA, 0)


async def test_nobody_starts_without_the_list(tmp_path: Path) -> None:
    async with RedisClient(f"unix://{tmp_path}/nobody.sock") as connection:
        with pytest.raises(LedgerUnavailable):
            await Revocations(connection, Revoked()).__aenter__()


async def test_the_list_is_bounded_and_makes_room_for_what_ended(
    connection: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "REVOCATIONS_MAX", 3)
    for name in "ab":
        await revoke(connection, RevokedSubject(RevocationKind.TENANT, name), None)
    await revoke(connection, RevokedSubject(RevocationKind.TENANT, "c"), 1)
    await revoke(connection, RevokedSubject(RevocationKind.TENANT, "d"), None)
    assert {each.subject.name for each in await revocations(connection)} == set("abd")
    with pytest.raises(TooManyRevocations, match="3 subjects are revoked"):
        await revoke(connection, RevokedSubject(RevocationKind.TENANT, "e"), None)
    await revoke(connection, RevokedSubject(RevocationKind.TENANT, "a"), None)
    assert await connection.call("HLEN", keys.REVOKED) == 4


@pytest.fixture
def run(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Return what runs `tollway revoke` on the demo config and this Redis."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOLLWAY__REDIS__URL", redis_url)

    def run(*args: str) -> Result:
        return CliRunner().invoke(tollway, ["revoke", *args])

    return run


def test_the_command_revokes_lists_and_lifts(run: Callable[..., Result]) -> None:
    assert run("list").output == "Nothing is revoked.\n"
    told = run("user", "ada", "--tenant", "acme")
    assert told.exit_code == 0, told.output
    assert told.output.startswith("user:acme/ada  issued up to 20")
    assert told.output.endswith("Z refused, until lifted\n")
    assert run("tenant", "globex", "--until", "2099-01-01").output.endswith("refused, until 2099-01-01T00:00:00Z\n")
    assert "is refused, until lifted" in run("jti", "t-1").output
    listed = json.loads(run("list", "--format", "json").output)["revocations"]
    assert [each["id"] for each in listed] == ["jti:tollway-development/t-1", "tenant:globex", "user:acme/ada"]
    assert listed[0] | {"at": ""} == {
        "id": "jti:tollway-development/t-1",
        "kind": "jti",
        "name": "t-1",
        "issuer": "tollway-development",
        "at": "",
        "until": None,
    }
    assert len(run("list").output.splitlines()) == 3
    for each in listed:
        assert run("lift", each["id"]).output == f"{each['id']} is no longer revoked\n"
    assert json.loads(run("list", "--format", "json").output) == {"revocations": []}
    again = run("lift", "user:acme/ada")
    assert (again.exit_code, again.output) == (1, "Error: user:acme/ada is not revoked\n")


def test_the_command_tells_programs_what_it_did(run: Callable[..., Result]) -> None:
    said = json.loads(run("user", "ada:1/2", "--tenant", "acme", "--format", "json").output)
    assert (said["id"], said["kind"], said["tenant"], said["name"]) == (
        "user:acme/ada%3A1%2F2",
        "user",
        "acme",
        "ada:1/2",
    )
    assert json.loads(run("lift", said["id"], "--format", "json").output) == {"lifted": said["id"]}


def test_a_full_list_is_told(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "REVOCATIONS_MAX", 1)
    assert run("tenant", "acme").exit_code == 0
    told = run("tenant", "globex")
    assert (told.exit_code, told.output) == (1, "Error: 1 subjects are revoked; lift some first\n")


async def test_a_full_list_is_read(connection: RedisClient) -> None:
    lines = [part for number in range(REVOCATIONS_MAX) for part in (f"user:acme/{number}", "5 0")]
    await connection.call("HSET", keys.REVOKED, "version", "1", *lines)
    revoked = Revoked()
    async with Revocations(connection, revoked):
        assert len(list(revoked)) == REVOCATIONS_MAX
        assert revoked.refuses(Origin("iss", Principal("acme", "9999", "pro"), None, None), 0)
