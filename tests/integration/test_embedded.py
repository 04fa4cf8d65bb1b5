"""The embedded Redis, with a real server: its data, its owner, and what a crash leaves."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import pytest
from redis import Redis

from engine.runtime.process import ChildFailed
from proxy.redis.client import RedisClient
from proxy.redis.embedded.binary import EmbeddedRedisUnusable, candidates
from proxy.redis.embedded.local_socket import ForeignShortcut
from proxy.redis.embedded.lock import DataDirInUse
from proxy.redis.embedded.server import EmbeddedRedis, EmbeddedRedisNotRunning, address
from tests.redis_server import NEWEST, OLDER, SERVERS, redis_in, version_of

OWNER = """
import asyncio, sys
from pathlib import Path
from proxy.redis.embedded.server import EmbeddedRedis

async def main():
    async with EmbeddedRedis(Path(sys.argv[1])) as redis:
        print(redis.address, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A short path: the temporary folders of pytest are named after the test."""
    with TemporaryDirectory(prefix="tw-") as folder:
        yield Path(folder) / "data"


def old() -> Path:
    """A Redis 6.2, where one is at hand."""
    for server in SERVERS:
        if server and version_of(server) < (7,):
            return server
    pytest.skip("no Redis 6.2 at hand")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owner_of(data_dir: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE, text=True)


def orphan_of(data_dir: Path) -> subprocess.Popen[bytes]:
    """A server as a killed owner may leave it behind."""
    home, path = data_dir / "redis", data_dir / "redis.sock"
    home.mkdir(parents=True)
    orphan = subprocess.Popen(
        [candidates()[0], "--port", "0", "--unixsocket", path, "--dir", home, "--appendonly", "yes", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    while not path.exists():
        assert orphan.poll() is None
        time.sleep(0.01)
    return orphan


def leave_a_stale_socket(data_dir: Path) -> None:
    data_dir.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(data_dir / "redis.sock"))


def last_written(data_dir: Path) -> Path:
    return max((data_dir / "redis").rglob("*.aof"), key=lambda file: file.stat().st_size)


def fill(connection: Redis) -> None:
    """Write what the gateway's scripts write: text, hashes, sets, sorted sets, streams, and what expires."""
    connection.set("toll", "paid", ex=3600)
    connection.hset("counters", mapping={"a": b"\x00\xff", "b": "1"})
    connection.sadd("tenants", "acme", "globex")
    connection.zadd("open", {"first": 1.5, "second": 2})
    connection.xadd("ledger", {"row": "one"}, id="1-1")
    connection.xadd("ledger", {"row": "two"}, id="2-1")
    connection.xdel("ledger", "2-1")


def filled(connection: Redis) -> bool:
    """Tell whether all of that is there."""
    assert connection.get("toll") == "paid"
    assert 0 < connection.ttl("toll") <= 3600
    packed = connection.execute_command("HGET", "counters", "a", NEVER_DECODE=True)  # type: ignore[no-untyped-call]
    assert packed == b"\x00\xff"
    assert connection.smembers("tenants") == {"acme", "globex"}
    assert connection.zrange("open", 0, -1, withscores=True) == [("first", 1.5), ("second", 2.0)]
    assert connection.xrange("ledger") == [("1-1", {"row": "one"})]
    return cast("dict[str, str]", connection.xinfo_stream("ledger"))["last-generated-id"] == "2-1"


def rewrite(connection: Redis) -> None:
    """Let the server write its data anew."""

    def busy() -> int:
        told = cast("dict[str, int]", connection.info("persistence"))
        return told["aof_rewrite_in_progress"] + told["aof_rewrite_scheduled"]

    connection.bgrewriteaof()
    while busy():
        time.sleep(0.02)
    assert cast("dict[str, str]", connection.info("persistence"))["aof_last_bgrewrite_status"] == "ok"


def client(url: str) -> Redis:
    return Redis.from_url(url, decode_responses=True)


async def test_it_starts_within_a_second_and_keeps_its_data_over_a_restart(data_dir: Path) -> None:
    began = time.monotonic()
    async with EmbeddedRedis(data_dir) as redis:
        assert time.monotonic() - began < 1
        with client(redis.address) as connection:
            connection.set("toll", "paid")
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            assert connection.get("toll") == "paid"


async def test_it_evicts_nothing_writes_every_second_and_listens_on_no_port(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir, memory_bytes_max=64 * 2**20) as redis:
        with client(redis.address) as connection:
            told = cast("dict[str, str]", connection.config_get("*"))
    assert told["maxmemory-policy"] == "noeviction"
    assert told["maxmemory"] == str(64 * 2**20)
    assert (told["appendonly"], told["appendfsync"]) == ("yes", "everysec")
    assert told["auto-aof-rewrite-min-size"] == str(256 * 2**20)
    assert told["port"] == "0"


async def test_only_its_owner_may_connect(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir):
        assert mode(data_dir) == 0o700
        assert mode(data_dir / "redis.sock") == 0o600


async def test_a_second_owner_is_refused_with_the_firsts_process_id(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir) as redis:
        with pytest.raises(DataDirInUse, match=rf"in use by another tollway \(process {os.getpid()}\)"):
            async with EmbeddedRedis(data_dir):
                pass
        with client(redis.address) as connection:
            assert connection.ping()


async def test_another_command_finds_it_by_its_data_directory(data_dir: Path) -> None:
    with pytest.raises(EmbeddedRedisNotRunning, match="is not running"):
        address(data_dir)
    async with EmbeddedRedis(data_dir) as redis:
        assert address(data_dir) == redis.address
    with pytest.raises(EmbeddedRedisNotRunning):
        address(data_dir)


async def test_a_data_directory_too_deep_for_a_socket_works_and_leaves_nothing(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e" * 60)
    async with EmbeddedRedis(deep) as redis:
        assert address(deep) == redis.address
        with client(redis.address) as connection:
            assert connection.ping()
        link = Path(redis.address.removeprefix("unix://")).parent
        assert link.readlink() == deep.resolve()
    assert not link.is_symlink()


async def test_a_strangers_file_in_place_of_the_short_path_is_refused(data_dir: Path) -> None:
    deep = data_dir / ("d" * 60) / ("e" * 60)
    async with EmbeddedRedis(deep) as redis:
        link = Path(redis.address.removeprefix("unix://")).parent
    link.symlink_to(data_dir)
    try:
        with pytest.raises(ForeignShortcut, match="is in the way of a socket"):
            async with EmbeddedRedis(deep):
                pass
    finally:
        link.unlink()


async def test_it_goes_when_its_owner_is_killed_and_the_next_owner_has_the_data(data_dir: Path) -> None:
    with owner_of(data_dir) as owner:
        assert owner.stdout is not None
        with client(owner.stdout.readline().strip()) as connection:
            connection.set("toll", "paid")
        owner.kill()
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            assert connection.get("toll") == "paid"


async def test_a_server_left_over_is_shut_down_before_ours_starts(data_dir: Path) -> None:
    with orphan_of(data_dir) as orphan:
        with client(address(data_dir)) as connection:
            connection.set("toll", "paid")
        async with EmbeddedRedis(data_dir) as redis:
            assert orphan.wait(timeout=5) == 0
            with client(redis.address) as connection:
                assert connection.get("toll") == "paid"


async def test_a_stale_socket_of_a_killed_server_is_no_obstacle(data_dir: Path) -> None:
    leave_a_stale_socket(data_dir)
    with pytest.raises(EmbeddedRedisNotRunning):
        address(data_dir)
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            assert connection.ping()


async def test_what_a_crash_cut_off_the_append_only_file_is_dropped_and_the_rest_loads(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            connection.set("toll", "paid")
            connection.set("later", "x" * 100)
    written = last_written(data_dir)
    os.truncate(written, written.stat().st_size - 50)
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            assert connection.get("toll") == "paid"
            assert connection.get("later") is None


async def test_a_broken_append_only_file_is_refused_with_the_servers_own_words(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            for number in range(100):
                connection.set(f"toll-{number}", "paid")
    written = last_written(data_dir)
    content = bytearray(written.read_bytes())
    content[1000:1020] = b"#" * 20
    written.write_bytes(content)
    with pytest.raises(ChildFailed, match=r"(?s)redis-server exited with status 1.*Bad file format"):
        async with EmbeddedRedis(data_dir):
            pass


async def test_an_old_server_is_refused_where_a_newer_one_wrote(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir, server=old()):
        pass
    (data_dir / "redis" / "appendonlydir").mkdir()
    with pytest.raises(EmbeddedRedisUnusable, match=r"written by version 7 or newer.*6\.2\.\d+.* cannot read it"):
        async with EmbeddedRedis(data_dir, server=old()):
            pass


@pytest.mark.parametrize("rewritten", [False, True], ids=["as written", "rewritten"])
@pytest.mark.parametrize("writer", OLDER)
async def test_what_an_older_server_wrote_is_read_by_the_newest(
    data_dir: Path, writer: Path, *, rewritten: bool
) -> None:
    home = data_dir / "redis"
    home.mkdir(parents=True)
    with redis_in(home, "--appendonly", "yes", server=writer) as url, client(url) as connection:
        fill(connection)
        if rewritten:
            rewrite(connection)
        connection.set("later", "paid")
    async with EmbeddedRedis(data_dir, server=NEWEST) as redis:
        with client(redis.address) as connection:
            assert filled(connection)
            assert connection.get("later") == "paid"


@pytest.mark.parametrize("reader", OLDER)
async def test_what_the_newest_server_wrote_is_read_by_any_from_version_7_on(data_dir: Path, reader: Path) -> None:
    if version_of(reader) < (7,):
        pytest.skip("it does not see what was written, and is refused")
    async with EmbeddedRedis(data_dir, server=NEWEST) as redis:
        with client(redis.address) as connection:
            fill(connection)
            rewrite(connection)
            connection.set("later", "paid")
    async with EmbeddedRedis(data_dir, server=reader) as redis:
        with client(redis.address) as connection:
            assert filled(connection)
            assert connection.get("later") == "paid"


async def test_the_newest_server_of_the_machines_own_is_taken(data_dir: Path) -> None:
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            told = cast("dict[str, str]", connection.info("server"))
    version = told.get("valkey_version", told["redis_version"])
    own = [path for path in candidates() if not path.is_relative_to(sys.prefix)]
    assert tuple(map(int, version.split("."))) == max(map(version_of, own or candidates()))


def test_a_server_keeps_the_name_it_is_called_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis-server").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert candidates()[0] == tmp_path / "redis-server"


async def test_a_server_that_does_not_run_is_passed_over(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shims = data_dir / "bin"
    shims.mkdir(parents=True)
    (shims / "redis-server").write_text("#!/bin/sh\necho 'redis-server: not installed'; exit 127\n")
    (shims / "redis-server").chmod(0o755)
    monkeypatch.setenv("PATH", str(shims))
    assert shims / "redis-server" in candidates()
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            assert connection.ping()


async def test_no_server_at_all_is_told(data_dir: Path) -> None:
    with pytest.raises(EmbeddedRedisUnusable, match="no redis-server or valkey-server was found"):
        async with EmbeddedRedis(data_dir, server=Path("/no/such/redis-server")):
            pass


def process_of(url: str) -> int:
    with client(url) as connection:
        return cast("dict[str, int]", connection.info("server"))["process_id"]


async def test_killed_it_is_started_again_at_the_same_address_with_its_data(
    data_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with EmbeddedRedis(data_dir) as redis:
        with client(redis.address) as connection:
            connection.set("toll", "paid")
        await asyncio.sleep(1.2)  # the append-only file is synced each second
        first = process_of(redis.address)
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(10):
            while "embedded_redis_back" not in caplog.messages:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        (line,) = [line for line in caplog.records if line.message == "embedded_redis_ended"]
        assert line.reason == "was ended by SIGKILL; it starts again in 1 s"  # type: ignore[attr-defined]
        assert process_of(redis.address) != first
        with client(redis.address) as connection:
            assert connection.get("toll") == "paid"
    with pytest.raises(EmbeddedRedisNotRunning):
        address(data_dir)


async def test_a_folder_of_any_name_is_reached_by_its_address(tmp_path: Path) -> None:
    folder = tmp_path / "50%41 #1?"
    folder.mkdir()
    async with EmbeddedRedis(folder) as redis, RedisClient(redis.address, deadline_s=20) as connection:
        assert await connection.call("PING") == "PONG"
