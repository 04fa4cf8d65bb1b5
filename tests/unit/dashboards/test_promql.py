"""Expressions name what is defined, or are refused."""

import pytest

from dashboards.promql import increase, level, quantile, rate
from proxy.observe import definitions as metric


def test_a_rate_is_summed_and_narrowed_by_what_its_metric_has() -> None:
    selector = 'tollway_tokens_total{tenant=~"$tenant",model=~"$model",kind=~"prompt"}'
    prompts = rate(metric.TOKENS, "tenant", kind="prompt")
    assert prompts.expression == f"sum by (tenant) (rate({selector}[$__rate_interval]))"
    assert prompts.legend == "{{tenant}}"


def test_a_quantile_keeps_the_buckets_bound() -> None:
    query = quantile(0.99, metric.REDIS_SECONDS, "op")
    assert query.expression == (
        "histogram_quantile(0.99, sum by (op, le) (rate(tollway_redis_seconds_bucket[$__rate_interval])))"
    )
    assert query.legend == "p99 {{op}}"


def test_a_share_is_zero_where_nothing_failed_yet() -> None:
    share = rate(metric.WASTE_TOKENS).over(rate(metric.TOKENS))
    whole = rate(metric.TOKENS).expression
    assert share.expression == f"({rate(metric.WASTE_TOKENS).expression} or 0 * {whole}) / {whole}"
    assert share.metrics == (metric.WASTE_TOKENS, metric.TOKENS)


def test_levels_of_several_gateways_are_put_together() -> None:
    assert level(metric.RESERVATIONS_OPEN, over="max").expression == "max (tollway_reservations_open)"


def test_a_label_that_the_metric_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="tollway_redis_seconds has no label tenant"):
        quantile(0.5, metric.REDIS_SECONDS, "tenant")
    with pytest.raises(ValueError, match="tollway_tokens_total has no label outcome"):
        increase(metric.TOKENS, outcome="ok")


def test_a_gauge_has_no_rate() -> None:
    with pytest.raises(ValueError, match="tollway_replica_up is a gauge, not a counter"):
        rate(metric.REPLICA_UP)
