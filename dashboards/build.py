"""
Builds `tollway.json` from the metric definitions: the rows below, drawn by `grafana.py`.

`python -m dashboards.build` writes it; with `--check` it only tells whether the file is what would be written.
"""

import argparse
import sys
from pathlib import Path

import orjson

from dashboards.grafana import Panel, Row, dashboard
from dashboards.promql import increase, level, quantile, rate
from proxy.observe import definitions as metric

TARGET = Path(__file__).with_name("tollway.json")

ANSWERED = "ok|client_closed|shutdown"
FAULTS = (
    "upstream_error|upstream_timeout|stream_truncated|no_replica|queue_full|overloaded|ledger_unavailable|"
    "internal_error|gateway_lost"
)
"""Outcomes that are the fleet's fault; these two as in `rules/recording.yml`."""
REFUSALS = "rate_limit_exceeded|insufficient_quota|concurrency_limit_exceeded|tokens_exceed_plan|model_not_allowed"
"""Outcomes that a plan decides."""
NO_ROOM = "queue_full|overloaded"
"""Outcomes of a fleet or a gateway that is full: of the faults."""

TRAFFIC = Row(
    "Traffic and errors",
    (
        Panel("Requests by outcome", "reqps", (rate(metric.REQUESTS, "outcome"),), stacked=True),
        Panel("Requests by model and lane", "reqps", (rate(metric.REQUESTS, "model", "lane"),), stacked=True),
        Panel(
            "Share of requests that failed through the fleet",
            "percentunit",
            (
                rate(metric.REQUESTS, "model", outcome=FAULTS).over(
                    rate(metric.REQUESTS, "model", outcome=f"{ANSWERED}|{FAULTS}")
                ),
            ),
            limits=((0.001, "orange"), (0.0144, "red")),
        ),
        Panel(
            "Share of requests without room in the fleet",
            "percentunit",
            (
                rate(metric.REQUESTS, "model", outcome=NO_ROOM).over(
                    rate(metric.REQUESTS, "model", outcome=f"{ANSWERED}|{FAULTS}")
                ),
            ),
            limits=((0.05, "red"),),
        ),
    ),
)

FELT_LATENCY = Row(
    "Latency: what a client feels",
    (
        Panel(
            "Time to first token",
            "s",
            tuple(quantile(share, metric.TTFT_SECONDS, "model", "lane") for share in (0.5, 0.95, 0.99)),
            limits=((5, "red"),),
        ),
        Panel(
            "Time per token after the first",
            "s",
            tuple(quantile(share, metric.TPOT_SECONDS, "model", "lane") for share in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Whole request",
            "s",
            tuple(quantile(share, metric.REQUEST_SECONDS, "model", "lane") for share in (0.5, 0.95, 0.99)),
        ),
    ),
)

OWN_LATENCY = Row(
    "Latency: what the gateway adds",
    (
        Panel(
            "Queue wait",
            "s",
            tuple(quantile(share, metric.QUEUE_WAIT_SECONDS, "model", "lane") for share in (0.5, 0.95, 0.99)),
        ),
        Panel(
            "Work in the gateway itself",
            "s",
            tuple(quantile(share, metric.OVERHEAD_SECONDS, "model", "lane") for share in (0.5, 0.99)),
        ),
    ),
)

REPLICAS = Row(
    "Replicas",
    (
        Panel(
            "Up (0 when any gateway cannot use it)",
            "short",
            (level(metric.REPLICA_UP, "model", "replica", over="min"),),
            base="red",
            limits=((1, "green"),),
        ),
        Panel(
            "Stalled (requests run, and no token comes)",
            "short",
            (level(metric.REPLICA_STALLED, "model", "replica", over="max"),),
            limits=((1, "red"),),
        ),
        Panel("In flight", "short", (level(metric.INFLIGHT, "model", "replica"),), stacked=True),
        Panel("Routed, by replica and reason", "reqps", (rate(metric.ROUTES, "replica", "reason"),), stacked=True),
        Panel(
            "Attempts failed, by reason", "reqps", (rate(metric.UPSTREAM_FAILURES, "replica", "reason"),), stacked=True
        ),
        Panel(
            "Answers that nobody counted",
            "short",
            (increase(metric.UNCOUNTED, "model", "replica"),),
            limits=((1, "red"),),
        ),
        Panel("Tokens held a second", "short", (rate(metric.HELD_TOKENS, "tenant"),), stacked=True),
        Panel("Tokens wasted a second", "short", (rate(metric.WASTE_TOKENS, "model", "reason"),), stacked=True),
    ),
)

REDIS = Row(
    "Redis and reservations",
    (
        Panel(
            "Round trips to Redis",
            "s",
            (quantile(0.5, metric.REDIS_SECONDS, "op"), quantile(0.99, metric.REDIS_SECONDS, "op")),
            limits=((0.05, "red"),),
        ),
        Panel("Calls that Redis did not take, by why", "reqps", (rate(metric.REDIS_FAILURES, "reason"),), stacked=True),
        Panel(
            "Reservations open, and requests in flight",
            "short",
            (
                level(metric.RESERVATIONS_OPEN).named("reservations"),
                level(metric.INFLIGHT).named("in flight"),
            ),
        ),
        Panel(
            "Settlements Redis did not take",
            "short",
            (increase(metric.SETTLE_FAILURES),),
            kind="stat",
            limits=((1, "red"),),
        ),
        Panel(
            "Reservations of silent gateways, and their tokens",
            "short",
            (
                level(metric.RESERVATIONS_SUSPECT, over="max").named("reservations"),
                level(metric.SUSPECT_TOKENS, over="max").named("tokens"),
            ),
        ),
        Panel(
            "Redis without its data",
            "short",
            (level(metric.LEDGER_EMPTIED, over="max"),),
            kind="stat",
            limits=((1, "red"),),
        ),
    ),
)

JOURNAL = Row(
    "The write-ahead log on each gateway's disk",
    (
        Panel("Settlements on disk that Redis does not have", "short", (level(metric.LEDGER_LAG),)),
        Panel("Size of the write-ahead log", "bytes", (level(metric.JOURNAL_BYTES),)),
        Panel(
            "Writes to the write-ahead log",
            "s",
            (quantile(0.5, metric.JOURNAL_SECONDS), quantile(0.99, metric.JOURNAL_SECONDS)),
            limits=((0.01, "red"),),
        ),
        Panel(
            "Failures of the write-ahead log",
            "short",
            (increase(metric.JOURNAL_FAILURES, "kind"),),
            kind="stat",
            limits=((1, "red"),),
        ),
    ),
)

REFUSED = Row(
    "Quota and refusals",
    (
        Panel(
            "Refused, by code",
            "reqps",
            (rate(metric.REQUESTS, "outcome", outcome=REFUSALS),),
            stacked=True,
        ),
        Panel("Refused, by tenant", "reqps", (rate(metric.REQUESTS, "tenant", outcome=REFUSALS),), stacked=True),
        Panel("Refused, by limit and reason", "reqps", (rate(metric.REFUSALS, "limit", "reason"),), stacked=True),
    ),
)

MONEY = Row(
    "Tokens and money by tenant",
    (
        Panel("Tokens billed a second", "short", (rate(metric.TOKENS, "tenant", "kind"),)),
        Panel(
            "Share of the prompt served from the prefix cache",
            "percentunit",
            (
                rate(metric.TOKENS, "tenant", kind="cached").over(
                    rate(metric.TOKENS, "tenant", kind="prompt"), "{{tenant}}"
                ),
            ),
        ),
        Panel(
            "Charged in the time shown",
            "short",
            (increase(metric.CHARGE, "tenant", "model", "currency"),),
            kind="table",
        ),
        Panel(
            "Completion tokens of the busiest users",
            "short",
            (increase(metric.USER_TOKENS, "tenant", "user", kind="completion").top(20),),
            kind="table",
        ),
    ),
)

CORRECTIONS = Row(
    "Bills corrected after a gateway was only paused",
    (
        Panel("Bills corrected a second", "short", (rate(metric.CORRECTIONS, "tenant", "model"),)),
        Panel("Tokens credited a second", "short", (rate(metric.CREDITED_TOKENS, "model", "kind"),)),
        Panel(
            "Credited in the time shown",
            "short",
            (increase(metric.CREDITED_CHARGE, "tenant", "model", "currency"),),
            kind="table",
        ),
    ),
)

GATEWAYS = Row(
    "Gateways",
    (
        Panel("Running versions", "short", (level(metric.BUILD, "version", "python", over="count"),), kind="table"),
        Panel("Fetches of issuers' keys", "short", (increase(metric.KEY_FETCHES, "issuer", "result"),)),
        Panel("Refused at the edge a second", "short", (rate(metric.EDGE_REFUSALS, "reason"),)),
        Panel("Request fields removed a second", "short", (rate(metric.STRIPPED_FIELDS, "endpoint", "field"),)),
    ),
)

WORKERS = Row(
    "Workers of gateways that are several processes",
    (
        Panel("Workers that serve", "short", (level(metric.WORKER_UP),)),
        Panel(
            "Workers that died",
            "short",
            (increase(metric.WORKER_DEATHS),),
            kind="stat",
            limits=((1, "red"),),
        ),
    ),
)

CONFIG = Row(
    "The config that holds",
    (
        Panel(
            "Reloads that failed",
            "short",
            (increase(metric.CONFIG_RELOADS, result="failed"),),
            kind="stat",
            limits=((1, "orange"),),
        ),
        Panel(
            "Oldest config that a gateway holds",
            "dateTimeAsIso",
            (level(metric.CONFIG_LOADED, over="min").scaled("* 1e3"),),
            kind="stat",
        ),
    ),
)

ROWS = (
    TRAFFIC,
    FELT_LATENCY,
    OWN_LATENCY,
    REPLICAS,
    REDIS,
    JOURNAL,
    REFUSED,
    MONEY,
    CORRECTIONS,
    GATEWAYS,
    WORKERS,
    CONFIG,
)
"""What pages somebody comes first, then who is turned away and what is billed, then what is looked up."""


def built() -> bytes:
    """Return the dashboard's file."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return orjson.dumps(dashboard("tollway", "Tollway", ROWS), option=options)


def main() -> int:
    """Write the dashboard, or check it; return the exit status."""
    parser = argparse.ArgumentParser(description="Build dashboards/tollway.json from the metric definitions.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when the file is out of date")
    if parser.parse_args().check:
        if TARGET.is_file() and TARGET.read_bytes() == built():
            return 0
        sys.stderr.write(f"{TARGET.name} is out of date: run python -m dashboards.build\n")
        return 1
    TARGET.write_bytes(built())
    return 0


if __name__ == "__main__":
    sys.exit(main())
