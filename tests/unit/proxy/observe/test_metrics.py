"""What a scrape shows after things happened; every assertion reads the exposition."""

import shutil
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from proxy.billing.record import ExchangeRecord, Source
from proxy.observe.definitions import CATALOGUE, MetricKind
from proxy.observe.metrics import Metrics
from proxy.store.journal.failure import Failure
from proxy.store.suspects import HeldInSilence
from tests import exposition
from tests.exposition import samples
from tests.records import RECORD


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {(name, frozenset(labels.items())): value for name, labels, value in samples(metrics.render()[0].decode())}


def read(metrics: Metrics, name: str, **labels: str) -> float | None:
    return scrape(metrics).get((name, frozenset(labels.items())))


def total(metrics: Metrics, name: str, **labels: str) -> float:
    return exposition.total(metrics.render()[0].decode(), name, **labels)


def test_a_served_exchange_counts_its_request_tokens_and_charge() -> None:
    metrics = Metrics()
    metrics.served(RECORD, request_s=2.0, overhead_s=0.001)
    assert read(metrics, "tollway_requests_total", tenant="acme", model="demo", lane="interactive", outcome="ok") == 1
    for kind, tokens in {"prompt": 120, "cached": 32, "completion": 11}.items():
        assert read(metrics, "tollway_tokens_total", tenant="acme", model="demo", kind=kind) == tokens
        assert read(metrics, "tollway_user_tokens_total", tenant="acme", user="ada", kind=kind) == tokens
    assert read(metrics, "tollway_charge_total", tenant="acme", model="demo", currency="USD") == 0.000777
    assert total(metrics, "tollway_waste_tokens_total") == 0


def test_a_served_exchange_is_timed_by_model_and_lane() -> None:
    metrics = Metrics()
    metrics.served(RECORD, request_s=2.0, overhead_s=0.003)
    sums = {
        name: read(metrics, f"tollway_{name}_seconds_sum", model="demo", lane="interactive")
        for name in ("request", "overhead", "queue_wait", "ttft", "tpot")
    }
    # 1.5 s after the first token for 10 more tokens.
    assert sums == {"request": 2.0, "overhead": 0.003, "queue_wait": 0.04, "ttft": 0.5, "tpot": pytest.approx(0.15)}


def test_choices_of_one_exchange_are_generated_side_by_side() -> None:
    metrics = Metrics()
    metrics.served(RECORD._replace(n=4, completion_tokens=44), request_s=2.0, overhead_s=0)
    assert read(metrics, "tollway_tpot_seconds_sum", model="demo", lane="interactive") == pytest.approx(0.15)


@pytest.mark.parametrize(
    "record",
    [RECORD._replace(stream=False), RECORD._replace(ttft_ms=None, completion_tokens=0)],
    ids=["not a stream", "no token"],
)
def test_no_first_token_time_without_one_seen(record: ExchangeRecord) -> None:
    metrics = Metrics()
    metrics.served(record, request_s=2.0, overhead_s=0)
    assert total(metrics, "tollway_ttft_seconds_count") == total(metrics, "tollway_tpot_seconds_count") == 0
    assert total(metrics, "tollway_request_seconds_count") == 1


def test_a_stream_of_one_token_has_no_time_per_token() -> None:
    metrics = Metrics()
    metrics.served(RECORD._replace(completion_tokens=1), request_s=2.0, overhead_s=0)
    assert total(metrics, "tollway_ttft_seconds_count") == 1
    assert total(metrics, "tollway_tpot_seconds_count") == 0


@pytest.mark.parametrize(
    ("outcome", "source", "prompt_tokens", "reason"),
    [
        ("ok", Source.ENGINE, 120, "retried"),
        ("client_closed", Source.UNOBSERVED, 0, "unobserved"),
        ("client_closed", Source.CUT, 120, "aborted"),
        ("shutdown", Source.CUT, 0, "aborted"),
        ("gateway_lost", Source.RECOVERED, 120, "aborted"),
        ("upstream_error", Source.CUT, 0, "failed"),
        ("upstream_timeout", Source.CUT, 0, "failed"),
        ("upstream_timeout", Source.UNOBSERVED, 0, "unobserved"),
        ("stream_truncated", Source.CUT, 120, "failed"),
    ],
)
def test_waste_has_one_reason_and_is_never_among_billed_tokens(
    outcome: str, source: Source, prompt_tokens: int, reason: str
) -> None:
    metrics = Metrics()
    record = RECORD._replace(
        outcome=outcome, source=source, prompt_tokens=prompt_tokens, cached_tokens=0, wasted_tokens=9
    )
    metrics.served(record, request_s=1.0, overhead_s=0)
    assert read(metrics, "tollway_waste_tokens_total", model="demo", reason=reason) == 9
    assert read(metrics, "tollway_tokens_total", tenant="acme", model="demo", kind="completion") == 11
    assert read(metrics, "tollway_tokens_total", tenant="acme", model="demo", kind="prompt") == prompt_tokens


def test_a_recovered_record_is_billed_and_not_timed() -> None:
    metrics = Metrics()
    metrics.billed(RECORD._replace(source=Source.RECOVERED))
    assert total(metrics, "tollway_tokens_total", kind="prompt") == 120
    assert total(metrics, "tollway_request_seconds_count") == 0


def test_a_correction_adds_to_the_bill_and_tells_apart_what_it_takes_away() -> None:
    metrics = Metrics()
    metrics.billed(RECORD._replace(source=Source.RECOVERED))
    metrics.corrected(RECORD._replace(prompt_tokens=0, cached_tokens=8, completion_tokens=-4, charge_picos=-7))
    billed = {kind: total(metrics, "tollway_tokens_total", kind=kind) for kind in ("prompt", "cached", "completion")}
    assert billed == {"prompt": 120, "cached": 40, "completion": 11}
    assert total(metrics, "tollway_user_tokens_total", kind="cached") == 40
    assert total(metrics, "tollway_credited_tokens_total") == 4
    assert read(metrics, "tollway_credited_tokens_total", tenant="acme", model="demo", kind="completion") == 4
    assert total(metrics, "tollway_charge_total") == 0.000777
    assert total(metrics, "tollway_credited_charge_total", currency="USD") == 7e-12
    assert total(metrics, "tollway_corrections_total") == 1
    assert total(metrics, "tollway_requests_total") == 1


def test_a_request_turned_away_counts_by_its_code_alone() -> None:
    metrics = Metrics()
    metrics.turned_away("", "", "", "invalid_api_key")
    assert read(metrics, "tollway_requests_total", tenant="", model="", lane="", outcome="invalid_api_key") == 1
    assert total(metrics, "tollway_tokens_total") == 0


@given(
    bills=st.lists(
        st.tuples(
            st.sampled_from(["acme", "globex"]), st.integers(0, 30), st.integers(0, 10**6), st.integers(0, 10**6)
        ),
        max_size=60,
    ),
    user_series_max=st.integers(0, 8),
)
def test_token_sums_are_exact_whatever_the_cap_on_users(
    bills: list[tuple[str, int, int, int]], user_series_max: int
) -> None:
    metrics = Metrics(user_series_max=user_series_max)
    for tenant, user, prompt, completion in bills:
        record = RECORD._replace(
            tenant=tenant, user=f"u{user}", prompt_tokens=prompt, cached_tokens=0, completion_tokens=completion
        )
        metrics.billed(record)
    for tenant in ("acme", "globex"):
        billed = sum(prompt + completion for of, _, prompt, completion in bills if of == tenant)
        assert total(metrics, "tollway_user_tokens_total", tenant=tenant) == billed
        assert total(metrics, "tollway_tokens_total", tenant=tenant) == billed
    seen = samples(metrics.render()[0].decode(), of="tollway_user_tokens_total")
    named = {(labels["tenant"], labels["user"]) for _, labels, _ in seen if labels["user"] != "other"}
    assert len(named) <= user_series_max


def test_inflight_is_asked_when_it_is_shown() -> None:
    metrics, leases = Metrics(), {1, 2}
    metrics.inflight("demo", "demo-0", lambda: len(leases))
    assert read(metrics, "tollway_inflight_requests", model="demo", replica="demo-0") == 2
    leases.clear()
    assert read(metrics, "tollway_inflight_requests", model="demo", replica="demo-0") == 0


def test_gauges_and_plain_counters_tell_the_last_word() -> None:
    metrics = Metrics()
    metrics.replica_up("demo", "demo-0", up=True)
    metrics.replica_up("demo", "demo-1", up=False)
    metrics.reservations_open(lambda: 3)
    metrics.suspect(HeldInSilence(2, 3_000))
    metrics.settle_failed()
    metrics.fields_stripped("chat", ["priority", "priority"])
    metrics.refused("silent")
    metrics.routed("demo", "demo-1", "least_load")
    metrics.redis("settle", 0.002)
    assert read(metrics, "tollway_replica_up", model="demo", replica="demo-0") == 1
    assert read(metrics, "tollway_replica_up", model="demo", replica="demo-1") == 0
    assert read(metrics, "tollway_reservations_open") == 3
    assert read(metrics, "tollway_reservations_suspect") == 2
    assert read(metrics, "tollway_suspect_tokens") == 3_000
    assert read(metrics, "tollway_settle_failures_total") == 1
    assert read(metrics, "tollway_stripped_fields_total", endpoint="chat", field="priority") == 2
    assert read(metrics, "tollway_edge_refusals_total", reason="silent") == 1
    assert read(metrics, "tollway_route_total", model="demo", replica="demo-1", reason="least_load") == 1
    assert read(metrics, "tollway_redis_seconds_sum", op="settle") == 0.002


def test_what_is_exposed_is_what_is_defined() -> None:
    text = Metrics().render()[0].decode()
    exposed = {
        family.name + ("_total" if family.type == "counter" else ""): (family.type, family.documentation)
        for family in text_string_to_metric_families(text)
        if family.name.startswith("tollway_")
    }
    assert exposed == {metric.name: (metric.kind, metric.help) for metric in CATALOGUE}


def test_histograms_have_their_defined_buckets() -> None:
    metrics = Metrics()
    metrics.served(RECORD, request_s=1.0, overhead_s=0)
    metrics.redis("settle", 0.1)
    seen = scrape(metrics)
    for metric in CATALOGUE:
        if metric.kind is MetricKind.HISTOGRAM:
            bounds = {float(dict(has)["le"]) for name, has in seen if name == f"{metric.name}_bucket"}
            assert bounds == {*metric.buckets, float("inf")}


def test_the_process_is_exposed_and_creation_times_are_not() -> None:
    metrics = Metrics()
    metrics.served(RECORD, request_s=1.0, overhead_s=0)
    text = metrics.render()[0]
    assert b"process_resident_memory_bytes " in text
    assert b"_created" not in text


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_no_fault() -> None:
    metrics = Metrics()
    metrics.served(RECORD._replace(wasted_tokens=1), request_s=1.0, overhead_s=0)
    metrics.redis("settle", 0.1)
    metrics.replica_up("demo", "demo-0", up=True)
    lint = subprocess.run(["promtool", "check", "metrics"], input=metrics.render()[0], capture_output=True, check=False)
    assert (lint.returncode, lint.stdout + lint.stderr) == (0, b"")


def test_the_write_ahead_log_is_told() -> None:
    metrics = Metrics()
    assert read(metrics, "tollway_journal_failures_total", kind="write") == 0, "there before the first failure"
    metrics.journal_failed(Failure.DAMAGE)
    metrics.journal_wrote(0.002)
    metrics.journal_holds(lambda: 3, lambda: 2_100)
    assert read(metrics, "tollway_journal_failures_total", kind="damage") == 1
    assert read(metrics, "tollway_journal_seconds_sum") == pytest.approx(0.002)
    assert read(metrics, "tollway_ledger_lag_records") == 3
    assert read(metrics, "tollway_journal_bytes") == 2_100


def test_a_replica_that_has_left_leaves_no_series_and_may_come_back() -> None:
    metrics = Metrics()
    for name in ("stays", "goes"):
        metrics.inflight("demo", name, lambda: 1)
        metrics.replica_up("demo", name, up=True)
        metrics.routed("demo", name, "least_tokens")
    metrics.replica_left("demo", "goes")
    metrics.replica_left("demo", "never-was")
    assert {labels["replica"] for _, labels, _ in samples(metrics.render()[0].decode()) if "replica" in labels} == {
        "stays"
    }
    metrics.routed("demo", "goes", "least_tokens")
    assert total(metrics, "tollway_route_total", replica="goes") == 1


def test_reloads_are_counted_from_the_start_and_the_config_that_holds_has_its_time() -> None:
    metrics = Metrics()
    assert [read(metrics, "tollway_config_reloads_total", result=result) for result in ("ok", "failed")] == [0, 0]
    metrics.config_reloaded(ok=True)
    metrics.config_reloaded(ok=False)
    metrics.config_reloaded(ok=False)
    assert [read(metrics, "tollway_config_reloads_total", result=result) for result in ("ok", "failed")] == [1, 2]
    metrics.config_loaded()
    assert total(metrics, "tollway_config_loaded_timestamp_seconds") == pytest.approx(time.time(), abs=60)


def test_fewer_users_or_more_may_have_series_of_their_own_from_now_on() -> None:
    metrics = Metrics(user_series_max=1)

    def serve(*users: str) -> set[str]:
        for user in users:
            metrics.billed(RECORD._replace(user=user))
        return {labels["user"] for _, labels, _ in samples(metrics.render()[0].decode()) if "user" in labels}

    assert serve("ada", "bob") == {"ada", "other"}
    metrics.keep_users_apart(2)
    assert serve("ada", "bob", "eve") == {"ada", "bob", "other"}
    metrics.keep_users_apart(0)
    assert serve("ada", "bob", "eve", "zoe") == {"ada", "bob", "other"}
    assert total(metrics, "tollway_user_tokens_total", kind="completion") == 9 * RECORD.completion_tokens
