"""The metric definitions keep the rules that dashboards and Prometheus rely on."""

import pytest

from proxy.observe import definitions
from proxy.observe.definitions import CATALOGUE, Definition, MetricKind
from proxy.settings.sections.limits import Bounds


def test_the_catalogue_has_every_definition_once() -> None:
    written = {value.name for value in vars(definitions).values() if isinstance(value, Definition)}
    listed = [metric.name for metric in CATALOGUE]
    assert sorted(listed) == sorted(written)


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_its_type_and_says_what_it_counts(metric: Definition) -> None:
    assert metric.name.startswith("tollway_")
    assert metric.name.endswith("_total") == (metric.kind is MetricKind.COUNTER)
    assert metric.help.endswith(".")
    assert bool(metric.buckets) == (metric.kind is MetricKind.HISTOGRAM)
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_no_label_can_hold_an_id() -> None:
    labels = {label for metric in CATALOGUE for label in metric.labels}
    assert labels.isdisjoint({"request_id", "incarnation", "url", "path", "token", "prompt"})


def test_times_are_told_apart_up_to_the_deadlines_of_requests() -> None:
    limits = Bounds()
    assert definitions.TTFT_SECONDS.buckets[-1] >= limits.ttft_s_max
    assert definitions.REQUEST_SECONDS.buckets[-1] >= limits.exchange_s_max
