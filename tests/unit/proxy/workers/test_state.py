"""What operators see of several workers together."""

from typing import Any

from proxy.workers.state import joined_replicas


def shown(name: str = "demo-0", **more: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {"healthy": True, "free_sequences": 4, "inflight_sequences": 1, "inflight_tokens": 10}
    usual |= {"leaving": False, "stalled": False, "cause": None}
    return {"model": "demo", "url": f"http://{name}", "group": "", "name": name, "earliest_end_us": 9} | usual | more


def test_a_replica_is_shown_once_with_what_all_workers_hold_on_it() -> None:
    first = [shown(), shown("demo-1")]
    second = [shown(inflight_tokens=7, earliest_end_us=5), shown("demo-1", earliest_end_us=None, free_sequences=0)]
    assert joined_replicas([first, second]) == [
        shown(free_sequences=8, inflight_sequences=2, inflight_tokens=17, earliest_end_us=5),
        shown("demo-1", free_sequences=4, inflight_sequences=2, inflight_tokens=20),
    ]


def test_it_is_healthy_when_every_worker_finds_it_so() -> None:
    [joined] = joined_replicas([[shown()], [shown(healthy=False)], [shown()]])
    assert joined["healthy"] is False


def test_it_has_stalled_when_any_worker_finds_it_so() -> None:
    [joined] = joined_replicas([[shown()], [shown(stalled=True, cause="no token")], [shown()]])
    assert (joined["stalled"], joined["cause"], joined["healthy"]) == (True, "no token", True)


def test_of_a_replica_that_one_worker_finds_down_the_cause_is_shown() -> None:
    [joined] = joined_replicas([[shown()], [shown(healthy=False, cause="Connection refused")], [shown()]])
    assert joined["cause"] == "Connection refused"


def test_nobody_holds_anything_there_and_nobody_says_anything() -> None:
    [joined] = joined_replicas([[shown(earliest_end_us=None)]] * 2)
    assert joined["earliest_end_us"] is None
    assert joined_replicas([]) == []


def test_one_that_leaves_is_not_taken_for_the_one_that_has_its_name() -> None:
    joined = joined_replicas([[shown(), shown(leaving=True)], [shown(url="http://elsewhere"), shown(leaving=True)]])
    assert [(each["url"], each["leaving"], each["inflight_sequences"]) for each in joined] == [
        ("http://demo-0", False, 1),
        ("http://demo-0", True, 2),
        ("http://elsewhere", False, 1),
    ]
