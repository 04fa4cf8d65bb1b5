"""Which server is taken for which data."""

import sys
from pathlib import Path

import pytest

from proxy.redis.embedded.binary import EmbeddedRedisUnusable, fit


def server(folder: Path, name: str, version: str) -> Path:
    path = folder / f"{name.lower()}-{version}"
    path.write_text(f"#!/bin/sh\necho '{name} server v={version} sha=00000000:0 malloc=libc bits=64'\n")
    path.chmod(0o755)
    return path


def based_on(home: Path, snapshot: str) -> None:
    """Leave what a server leaves that has written its data anew as a snapshot."""
    (home / "appendonlydir").mkdir()
    (home / "appendonlydir" / "appendonly.aof.2.base.rdb").write_bytes(snapshot.encode() + b"\xfa\x09")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "redis").mkdir()
    return tmp_path / "redis"


@pytest.mark.parametrize(
    ("snapshot", "taken"),
    [
        ("REDIS0009", "valkey-9.1.2"),
        ("REDIS0010", "valkey-9.1.2"),
        ("REDIS0011", "valkey-9.1.2"),
        ("REDIS0012", "redis-8.2.1"),
        ("REDIS0013", "redis-8.2.1"),
        ("VALKEY080", "valkey-9.1.2"),
    ],
)
def test_the_newest_that_reads_the_data_is_taken(tmp_path: Path, home: Path, snapshot: str, taken: str) -> None:
    based_on(home, snapshot)
    names = [("Redis", "6.2.14"), ("Redis", "8.2.1"), ("Valkey", "9.1.2"), ("Valkey", "8.1.0")]
    assert fit(home, [server(tmp_path, *name) for name in names]).path.name == taken


@pytest.mark.parametrize(
    ("snapshot", "at_hand", "writer"),
    [
        ("REDIS0010", "Redis 6.2.14", "version 7 or newer"),
        ("REDIS0012", "Valkey 9.1.2", "Redis 7.4 or newer"),
        ("REDIS0012", "Redis 7.2.4", "Redis 7.4 or newer"),
        ("VALKEY080", "Valkey 8.1.0", "Valkey 9 or newer"),
        ("VALKEY080", "Redis 9.0.0", "Valkey 9 or newer"),
    ],
)
def test_one_that_cannot_read_the_data_is_refused(home: Path, snapshot: str, at_hand: str, writer: str) -> None:
    based_on(home, snapshot)
    with pytest.raises(EmbeddedRedisUnusable, match=f"was written by {writer}, and .* cannot read it"):
        fit(home, [server(home.parent, *at_hand.split())])


def test_without_data_or_with_commands_alone_the_newest_is_taken(tmp_path: Path, home: Path) -> None:
    servers = [server(tmp_path, "Redis", "8.2.1"), server(tmp_path, "Valkey", "9.1.2")]
    assert fit(home, servers).version == (9, 1, 2)
    (home / "appendonlydir").mkdir()
    (home / "appendonlydir" / "appendonly.aof.2.base.aof").write_text("*1\r\n$8\r\nFLUSHALL\r\n")
    assert fit(home, servers).version == (9, 1, 2)


def test_one_that_is_too_old_is_refused(tmp_path: Path, home: Path) -> None:
    with pytest.raises(EmbeddedRedisUnusable, match=r"redis-6.0.16 \(version 6.0.16\) is too old"):
        fit(home, [server(tmp_path, "Redis", "6.0.16")])


def test_the_machines_own_comes_before_a_newer_one_of_the_python_environment(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "env").mkdir()
    brought = server(tmp_path / "env", "Valkey", "9.1.2").rename(tmp_path / "env" / "valkey-server")
    own = [server(tmp_path, "Redis", version) for version in ("7.0.15", "7.2.4", "6.0.16")]
    monkeypatch.setattr("sys.executable", str(tmp_path / "env" / "python"))
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert fit(home, [brought, *own]).version == (7, 2, 4)
    assert fit(home, [brought, own[-1]]).version == (9, 1, 2)
    based_on(home, "VALKEY080")
    assert fit(home, [brought, *own]).version == (9, 1, 2)


def test_a_python_that_is_the_machines_own_brings_nothing(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = server(tmp_path, "Redis", "7.0.15").rename(tmp_path / "redis-server")
    monkeypatch.setattr("sys.executable", str(tmp_path / "python3"))
    monkeypatch.setattr("sys.prefix", sys.base_prefix)
    assert fit(home, [beside]).is_own
