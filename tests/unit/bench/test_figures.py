import pytest

from tests.bench.figures import ratio, total, typical, with_added

ROUNDS = [
    {"direct": {"rps": 100.0}, "ours": {"rps": 10.0, "errors": 1}},
    {"direct": {"rps": 200.0}, "ours": {"rps": 30.0}},
    {"direct": {"rps": 50.0}, "ours": {"rps": 20.0, "errors": 2}},
]


def test_a_typical_figure_is_the_median_of_the_rounds() -> None:
    assert typical(ROUNDS, "ours", "rps") == 20


def test_a_figure_that_most_rounds_lack_is_none() -> None:
    assert typical([*ROUNDS[:1], {}, {}], "ours", "rps") is None
    assert typical([*ROUNDS[:2], {}], "ours", "rps") == 20
    assert typical([], "ours", "rps") is None


def test_a_ratio_compares_within_a_round() -> None:
    assert ratio(ROUNDS, "rps", "ours", "direct") == pytest.approx(0.15)


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratio([{"direct": {"rps": 0.0}, "ours": {"rps": 1.0}}], "rps", "ours", "direct") is None
    assert ratio(ROUNDS, "rps", "ours", "absent") is None


def test_a_total_is_over_all_rounds() -> None:
    assert total(ROUNDS, "ours", ["errors"]) == 3
    assert total(ROUNDS, "absent", ["errors"]) == 0


def test_added_latency_is_what_direct_did_not_have_in_the_same_round() -> None:
    played = with_added({"direct": {"open_p50_us": 50, "open_p99_us": 90}, "ours": {"open_p50_us": 400}})
    assert played["ours"] == {"open_p50_us": 400, "added_open_p50_us": 350}
    assert played["direct"]["added_open_p99_us"] == 0


def test_without_direct_nothing_is_added() -> None:
    assert with_added({"ours": {"open_p50_us": 400}}) == {"ours": {"open_p50_us": 400}}
