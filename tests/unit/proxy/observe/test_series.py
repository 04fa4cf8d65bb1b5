import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest

from proxy.observe.definitions import Definition, MetricKind
from proxy.observe.series import Children, CounterSeries, HistogramSeries

BOUNDS = (0.1, 0.5, 1, 30)
COUNTER = Definition("seen_total", MetricKind.COUNTER, "How often it was seen.", ("tenant", "model"))
HISTOGRAM = Definition("took_seconds", MetricKind.HISTOGRAM, "How long it took.", ("model",), BOUNDS)
NAMES = st.sampled_from(["acme", 'a"b', "c\\d", "e\nf", "ü"])


def test_one_is_made_for_each_set_of_labels() -> None:
    children = Children(lambda tenant, model: [tenant, model])
    first = children["a", "x"]
    assert children["b", "x"] == ["b", "x"]
    assert children["a", "x"] is first


@pytest.fixture(autouse=True)
def no_creation_times() -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]


def exposed(collector: CounterSeries | HistogramSeries) -> bytes:
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry)


@given(st.lists(st.tuples(NAMES, NAMES, st.integers(0, 2**40))))
def test_a_counter_reads_as_the_librarys_own(counted: list[tuple[str, str, int]]) -> None:
    ours, registry = CounterSeries(COUNTER), CollectorRegistry()
    theirs = Counter(COUNTER.name, COUNTER.help, COUNTER.labels, registry=registry)
    for tenant, model, amount in counted:
        ours.series[tenant, model].inc(amount)
        theirs.labels(tenant, model).inc(amount)
    assert exposed(ours) == generate_latest(registry)


@given(st.lists(st.tuples(NAMES, st.sampled_from([0.0, 0.05, *BOUNDS, 0.7, 31.0]) | st.floats(0, 1_000))))
def test_a_histogram_reads_as_the_librarys_own(seen: list[tuple[str, float]]) -> None:
    ours, registry = HistogramSeries(HISTOGRAM), CollectorRegistry()
    theirs = Histogram(HISTOGRAM.name, HISTOGRAM.help, HISTOGRAM.labels, registry=registry, buckets=BOUNDS)
    for model, seconds in seen:
        ours.series[model,].observe(seconds)
        theirs.labels(model).observe(seconds)
    assert exposed(ours) == generate_latest(registry)


def test_what_has_no_labels_is_there_from_the_start() -> None:
    assert b"\nfaults_total 0.0\n" in exposed(CounterSeries(Definition("faults_total", MetricKind.COUNTER, "Faults.")))
    waits = Definition("wait_seconds", MetricKind.HISTOGRAM, "Waits.", (), BOUNDS)
    assert b"\nwait_seconds_count 0.0\n" in exposed(HistogramSeries(waits))
