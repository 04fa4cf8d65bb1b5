"""Several workers' expositions as one: what is summed, what goes with its worker, and whose series stand for others."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.observe.joined import JoinedExposition
from proxy.observe.metrics import Metrics
from tests.exposition import samples, total
from tests.records import RECORD

KINDS = ("prompt", "cached", "completion")


def text(metrics: Metrics) -> str:
    return metrics.render()[0].decode()


def worker(*users: str, cap: int = 100) -> Metrics:
    """Return the metrics of a worker that served these users, one exchange each."""
    metrics = Metrics(user_series_max=cap)
    for user in users:
        metrics.served(RECORD._replace(user=user), request_s=2.0, overhead_s=0.003)
    return metrics


def test_one_worker_alone_says_what_it_says() -> None:
    said = text(worker("ada", 'o"brien \\ "\n', ',user="other"}', "a\u2028b"))
    joined = JoinedExposition(100).over([said])
    assert dict(_values(joined)) == dict(_values(said))
    assert [line for line in joined.splitlines() if line[0] == "#"] == [
        line for line in said.splitlines() if line[0] == "#"
    ]


def test_counters_and_histograms_are_summed() -> None:
    joined = JoinedExposition(100).over([text(worker("ada", "bob")), text(worker("ada"))])
    assert total(joined, "tollway_requests_total", outcome="ok") == 3
    assert total(joined, "tollway_user_tokens_total", user="ada", kind="prompt") == 240
    assert total(joined, "tollway_request_seconds_count") == 3
    assert total(joined, "tollway_request_seconds_sum") == 6.0
    assert total(joined, "tollway_request_seconds_bucket", le="+Inf") == 3
    assert total(joined, "tollway_request_seconds_bucket", le="1.0") == 0


def test_a_gauge_is_joined_as_its_definition_says() -> None:
    first, second = Metrics(), Metrics()
    for metrics, lost, up in ((first, False, True), (second, True, False)):
        metrics.ledger_emptied(lambda lost=lost: lost)  # type: ignore[misc]
        metrics.replica_up("demo", "demo-0", up=up)
        metrics.replica_up("demo", "demo-1", up=True)
        metrics.reservations_open(lambda: 2)
    joined = JoinedExposition(100).over([text(first), text(second)])
    assert total(joined, "tollway_ledger_emptied") == 1
    assert total(joined, "tollway_replica_up", replica="demo-0") == 0
    assert total(joined, "tollway_replica_up", replica="demo-1") == 1
    assert total(joined, "tollway_reservations_open") == 4
    assert total(joined, "tollway_build_info") == 1
    start = [total(text(metrics), "process_start_time_seconds") for metrics in (first, second)]
    assert total(joined, "process_start_time_seconds") == min(start)
    assert total(joined, "process_resident_memory_bytes") > total(text(first), "process_resident_memory_bytes")


def test_what_a_worker_counted_stays_when_it_is_gone_and_its_gauges_go() -> None:
    whole, mortal = JoinedExposition(100), worker("ada")
    mortal.replica_up("demo", "demo-0", up=False)
    whole.ended(text(mortal))
    whole.ended(text(worker("bob")))
    assert total(whole.over([]), "tollway_requests_total") == 2
    reborn = Metrics()
    reborn.replica_up("demo", "demo-0", up=True)
    joined = whole.over([text(reborn), text(worker("ada"))])
    assert total(joined, "tollway_requests_total") == 3
    assert total(joined, "tollway_user_tokens_total", user="ada", kind="prompt") == 240
    assert total(joined, "tollway_replica_up") == 1


def test_what_is_kept_of_the_gone_does_not_grow_with_their_number() -> None:
    whole = JoinedExposition(3)
    sizes = set()
    for life in range(20):
        whole.ended(text(worker(f"user-{life}-a", f"user-{life}-b")))
        sizes.add(len(whole.over([]).splitlines()))
    assert max(sizes) == len(whole.over([]).splitlines())
    assert len(sizes) <= 3, "it grew until the users' cap and no further"
    assert total(whole.over([]), "tollway_user_tokens_total", kind="prompt") == 40 * 120


_SERVED = st.lists(st.lists(st.sampled_from([f"user-{at}" for at in range(8)] + ["other"]), max_size=6), max_size=4)


@given(lives=_SERVED, cap=st.integers(0, 5), of_a_worker=st.integers(0, 5))
def test_the_sum_over_users_is_exact_and_nothing_falls_whatever_the_cap(
    lives: list[list[str]], cap: int, of_a_worker: int
) -> None:
    whole = JoinedExposition(cap)
    before: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    served: Counter[str] = Counter()
    for users in lives:
        said = text(worker(*users, cap=of_a_worker))
        served.update(users)
        alive = whole.over([said])
        whole.ended(said)
        for joined in (alive, whole.over([])):
            now = dict(_values(joined, of="tollway_user_tokens"))
            assert all(now[key] >= value for key, value in before.items())
            before = now
            assert total(joined, "tollway_user_tokens_total", kind="prompt") == served.total() * 120
            users_seen = {dict(labels)["user"] for _, labels in now}
            assert len(users_seen - {"other"}) <= cap


def _values(exposition: str, of: str = "") -> list[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    return [((name, frozenset(labels.items())), value) for name, labels, value in samples(exposition, of)]


def test_a_replica_that_has_left_is_forgotten_with_what_the_gone_had_counted() -> None:
    joined, gone, living = JoinedExposition(100), Metrics(), Metrics()
    for metrics in (gone, living):
        for model, replica in (("demo", "goes"), ("demo", "stays"), ('o"dd\\', "goes")):
            metrics.routed(model, replica, "retry")
    joined.ended(text(gone))
    for metrics in (gone, living):
        metrics.replica_left("demo", "goes")
        metrics.replica_left('o"dd\\', "goes")
    assert total(joined.over([text(living)]), "tollway_route_total") == 3 + 1
    joined.forget(("demo", "goes"))
    joined.forget(('o"dd\\', "goes"))
    told = joined.over([text(living)])
    assert (total(told, "tollway_route_total"), total(told, "tollway_route_total", replica="stays")) == (2, 2)
