import os

import pytest

from tests.bench.machine import Process, family, is_redis

STAT = "4242 (redis-server (a)) S 7 4242 4242 0 -1 4194560 100 200 0 0 150 50 20 30 20 0 5 0 9999 1000 256 184467 1 1"


def process(pid: int, parent: int) -> Process:
    return Process(pid, "some", parent, 0.0, 0)


def test_a_process_is_read_from_its_stat_line() -> None:
    read = Process.parse(STAT)
    assert (read.pid, read.name, read.parent) == (4242, "redis-server (a)", 7)
    assert read.cpu_s == pytest.approx(250 / os.sysconf("SC_CLK_TCK"))
    assert read.rss_bytes == 256 * os.sysconf("SC_PAGE_SIZE")
    assert is_redis(read)


def test_a_family_is_whoever_descends() -> None:
    everything = {p.pid: p for p in (process(1, 0), process(10, 1), process(11, 10), process(12, 11), process(20, 1))}
    assert [member.pid for member in family(everything, 10)] == [10, 11, 12]
    assert family(everything, 99) == []
