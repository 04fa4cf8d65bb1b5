from engine.fleet.pool import Pool
from engine.fleet.replica import Replica


def test_replicas_stay_in_the_configs_order_and_have_names() -> None:
    replicas = [Replica(name, f"http://{name}", 1) for name in ("b", "a", "c")]
    pool = Pool("demo", replicas)
    assert list(pool) == replicas
    assert pool["a"] is replicas[1]
    assert [snapshot.name for snapshot in pool.snapshots()] == ["b", "a", "c"]


def test_snapshots_tell_how_replicas_stand_now() -> None:
    pool = Pool("demo", [Replica("a", "http://a", 2, healthy=True)])
    (before,) = pool.snapshots()
    with pool["a"].lease(1, 10, expected_end_us=1):
        (during,) = pool.snapshots()
    assert (before.free_sequences, during.free_sequences) == (2, 1)


def test_who_is_in_it_changes_as_a_whole() -> None:
    old, kept, new = (Replica(name, f"http://{name}", 1) for name in ("old", "kept", "new"))
    pool = Pool("demo", [old, kept])
    pool.leaving.add(old)
    pool.arrange([new, kept])
    assert (list(pool), pool.leaving) == ([new, kept], {old})
    assert [pool.has(replica) for replica in (old, kept, new, Replica("new", "http://new", 1))] == [
        False,
        True,
        True,
        False,
    ]
    pool.arrange([old])
    assert (list(pool), pool.leaving) == ([old], set())
