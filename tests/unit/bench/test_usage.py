import pytest

from tests.bench.machine import Process
from tests.bench.usage import Look


def test_usage_is_what_grew_between_two_looks() -> None:
    before = Look(10.0, (Process(1, "tollway", 0, 2.0, 5_000_000),), (Process(2, "redis-server", 1, 1.0, 9_000_000),))
    after = Look(12.0, (Process(1, "tollway", 0, 3.5, 6_000_000),), (Process(2, "redis-server", 1, 1.1, 9_000_000),))
    used = before.until(after)
    assert used.cpu_us_per_s == pytest.approx(750_000)
    assert used.redis_us_per_s == pytest.approx(50_000)
    assert used.memory_mb == 6
