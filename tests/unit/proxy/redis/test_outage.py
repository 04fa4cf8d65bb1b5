"""An outage is told when it begins and when it ends."""

import pytest

from proxy.redis import outage as module
from proxy.redis.outage import CALM_S, Outage
from proxy.redis.refusal import RedisRefusal

AWAY = RedisRefusal("oom", "Redis refuses (OOM): it is out of memory", "OOM command not allowed")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [100.0]
    monkeypatch.setattr(module, "monotonic", lambda: clock[0])
    return clock


def told(caplog: pytest.LogCaptureFixture) -> list[tuple[str, object]]:
    return [(line.message, getattr(line, "calls", getattr(line, "reason", None))) for line in caplog.records]


def test_each_outage_is_two_lines_and_a_count(now: list[float], caplog: pytest.LogCaptureFixture) -> None:
    failed: list[str] = []
    outage = Outage("redis:6379", failed.append)
    outage.answered()
    assert told(caplog) == []
    for _ in range(1_000):
        outage.met(AWAY)
        now[0] += 0.01
    outage.answered()
    assert told(caplog) == [("redis_away", AWAY.said)], "it fails still"
    now[0] += CALM_S
    outage.answered()
    outage.answered()
    assert told(caplog) == [("redis_away", AWAY.said), ("redis_back", 1_000)]
    assert caplog.records[1].seconds == 11.5  # type: ignore[attr-defined]
    outage.met(AWAY)
    assert [event for event, _ in told(caplog)] == ["redis_away", "redis_back", "redis_away"]
    assert failed == ["oom"] * 1_001
