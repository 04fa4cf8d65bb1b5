"""
Every metric of the gateway, once: its name, its type, its labels and what it says.

`metrics.py` registers these and `dashboards/build.py` draws them, so that neither can name a metric that is not here.
Rules: base units, the prefix `tollway_`, and labels whose values come from the operator's config or from an enum of
ours. A request id, a prompt or a token is never a label.
"""

from dataclasses import dataclass
from enum import StrEnum

from policies.pricing import PICOS


class MetricKind(StrEnum):
    """Prometheus's type of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Joined(StrEnum):
    """How the gauges of several workers become one."""

    SUM = "sum"
    MIN = "min"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric, as the exposition names it."""

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds in the metric's unit; of a histogram only."""
    joined: Joined = Joined.SUM
    """Of a gauge only: what is counted is always summed."""
    counted_in: int = 1
    """Of a counter only: how many of what is counted, in whole numbers, make one of what is shown."""


TOKEN_KINDS = ("prompt", "cached", "completion")
"""What the label `kind` of tokens says."""

_EXCHANGE_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600)
"""Up to the default of `limits.exchange_s_max`; those of the first token up to `ttft_s_max` and beyond."""
_TTFT_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 30, 60, 120, 300)
_TPOT_BUCKETS = (0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1)
_WAIT_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_OWN_WORK_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 2.5)

_LANE = ("model", "lane")

REQUESTS = Definition(
    "tollway_requests_total",
    MetricKind.COUNTER,
    "Exchanges ended and requests turned away, by how they ended: ok, client_closed or the code of the error.",
    ("tenant", "model", "lane", "outcome"),
)
TOKENS = Definition(
    "tollway_tokens_total",
    MetricKind.COUNTER,
    "Tokens billed: all prompt tokens, the cached part of them, and completion tokens.",
    ("tenant", "model", "kind"),
)
USER_TOKENS = Definition(
    "tollway_user_tokens_total",
    MetricKind.COUNTER,
    "Tokens billed by user; users beyond the cap stand together as other.",
    ("tenant", "user", "kind"),
)
CHARGE = Definition(
    "tollway_charge_total",
    MetricKind.COUNTER,
    "Money charged, in units of the currency.",
    ("tenant", "model", "currency"),
    counted_in=PICOS,
)
REQUEST_SECONDS = Definition(
    "tollway_request_seconds",
    MetricKind.HISTOGRAM,
    "From the request's first byte to the last byte of its answer.",
    _LANE,
    _EXCHANGE_BUCKETS,
)
TTFT_SECONDS = Definition(
    "tollway_ttft_seconds",
    MetricKind.HISTOGRAM,
    "From the request's first byte to its first token, of streams.",
    _LANE,
    _TTFT_BUCKETS,
)
TPOT_SECONDS = Definition(
    "tollway_tpot_seconds",
    MetricKind.HISTOGRAM,
    "Time for each token after the first, of streams.",
    _LANE,
    _TPOT_BUCKETS,
)
QUEUE_WAIT_SECONDS = Definition(
    "tollway_queue_wait_seconds",
    MetricKind.HISTOGRAM,
    "How long admitted requests waited for their turn.",
    _LANE,
    _WAIT_BUCKETS,
)
OVERHEAD_SECONDS = Definition(
    "tollway_overhead_seconds",
    MetricKind.HISTOGRAM,
    "Time spent in the gateway itself: neither in the queue nor with a replica.",
    _LANE,
    _OWN_WORK_BUCKETS,
)
INFLIGHT = Definition(
    "tollway_inflight_requests",
    MetricKind.GAUGE,
    "Requests now with a replica.",
    ("model", "replica"),
)
ROUTES = Definition(
    "tollway_route_total",
    MetricKind.COUNTER,
    "Routing decisions, by the replica chosen and why.",
    ("model", "replica", "reason"),
)
REFUSALS = Definition(
    "tollway_refusals_total",
    MetricKind.COUNTER,
    "Requests refused, by the limit that did, if one did, and why: the error's code, or what is wrong with the token.",
    ("limit", "reason"),
)
UPSTREAM_FAILURES = Definition(
    "tollway_upstream_failures_total",
    MetricKind.COUNTER,
    "Attempts that a replica failed: connect, timeout, gone, broken, malformed, too_large, unreadable, foreign, "
    "error_frame, status_NNN.",
    ("model", "replica", "reason"),
)
UNCOUNTED = Definition(
    "tollway_uncounted_answers_total",
    MetricKind.COUNTER,
    "Answers that ran to their end and of which the replica did not say what they used; none of that is billed.",
    ("model", "replica"),
)
WASTE_TOKENS = Definition(
    "tollway_waste_tokens_total",
    MetricKind.COUNTER,
    "Tokens billed to nobody: of attempts retried, failed, aborted or unreadable, as seen; unobserved: an upper bound.",
    ("model", "reason"),
)
HELD_TOKENS = Definition(
    "tollway_held_tokens_total",
    MetricKind.COUNTER,
    "Tokens that quotas keep for answers of which no usage is known: as many as may have been used; not billed.",
    ("tenant", "model"),
)
CORRECTIONS = Definition(
    "tollway_corrections_total",
    MetricKind.COUNTER,
    "Bills of a sweeper that the gateway it took for dead corrected; the ledger has both rows.",
    ("tenant", "model"),
)
CREDITED_TOKENS = Definition(
    "tollway_credited_tokens_total",
    MetricKind.COUNTER,
    "Tokens that corrections took off a bill: the ledger's sum is tollway_tokens_total less these.",
    ("tenant", "model", "kind"),
)
CREDITED_CHARGE = Definition(
    "tollway_credited_charge_total",
    MetricKind.COUNTER,
    "Money that corrections took off a bill, in units of the currency.",
    ("tenant", "model", "currency"),
    counted_in=PICOS,
)
REDIS_FAILURES = Definition(
    "tollway_redis_failures_total",
    MetricKind.COUNTER,
    "Calls that Redis did not take, by the code of its error (noperm, oom, readonly, ...) or `no answer`.",
    ("reason",),
)
RESERVATIONS_OPEN = Definition(
    "tollway_reservations_open",
    MetricKind.GAUGE,
    "Exchanges of this gateway that hold a reservation, neither settled nor released.",
)
RESERVATIONS_SUSPECT = Definition(
    "tollway_reservations_suspect",
    MetricKind.GAUGE,
    "Reservations of gateways that nobody hears of, and that may serve still: what the fleet's last sweep found.",
    joined=Joined.MAX,
)
SUSPECT_TOKENS = Definition(
    "tollway_suspect_tokens",
    MetricKind.GAUGE,
    "Tokens that windows keep for such reservations.",
    joined=Joined.MAX,
)
SETTLE_FAILURES = Definition(
    "tollway_settle_failures_total",
    MetricKind.COUNTER,
    "Settlements and releases that Redis did not take.",
)
LEDGER_EMPTIED = Definition(
    "tollway_ledger_emptied",
    MetricKind.GAUGE,
    "1 while Redis answers without the data that this gateway remembers: nothing is admitted.",
    joined=Joined.MAX,
)
LEDGER_LAG = Definition(
    "tollway_ledger_lag_records",
    MetricKind.GAUGE,
    "Settlements in this gateway's write-ahead log that Redis is not known to have.",
)
JOURNAL_BYTES = Definition(
    "tollway_journal_bytes",
    MetricKind.GAUGE,
    "Size of this gateway's write-ahead log.",
)
JOURNAL_SECONDS = Definition(
    "tollway_journal_seconds",
    MetricKind.HISTOGRAM,
    "Writes to the write-ahead log, each until it is on the disk.",
    (),
    _OWN_WORK_BUCKETS,
)
JOURNAL_FAILURES = Definition(
    "tollway_journal_failures_total",
    MetricKind.COUNTER,
    "What failed of the write-ahead log: a write, an entry (damage), a log that was removed, one of a newer gateway.",
    ("kind",),
)
REPLICA_UP = Definition(
    "tollway_replica_up",
    MetricKind.GAUGE,
    "1 when the replica takes requests, else 0; of several workers, when it takes those of each.",
    ("model", "replica"),
    joined=Joined.MIN,
)
REPLICA_STALLED = Definition(
    "tollway_replica_stalled",
    MetricKind.GAUGE,
    "1 when the replica's own counts say that requests run and no token comes, for 10 s; 0 once that is over.",
    ("model", "replica"),
    joined=Joined.MAX,
)
REDIS_SECONDS = Definition(
    "tollway_redis_seconds",
    MetricKind.HISTOGRAM,
    "Round trips to Redis.",
    ("op",),
    _OWN_WORK_BUCKETS,
)
KEY_FETCHES = Definition(
    "tollway_key_fetches_total",
    MetricKind.COUNTER,
    "Tries to fetch the keys that an issuer publishes: ok or failed.",
    ("issuer", "result"),
)
EDGE_REFUSALS = Definition(
    "tollway_edge_refusals_total",
    MetricKind.COUNTER,
    "Connections and requests refused before they were read, by the error's code; dropped and silent are told nothing.",
    ("reason",),
)
STRIPPED_FIELDS = Definition(
    "tollway_stripped_fields_total",
    MetricKind.COUNTER,
    "Request fields left out because the endpoint's allow-list does not have them, by vLLM's names, or as other.",
    ("endpoint", "field"),
)
WORKER_UP = Definition(
    "tollway_worker_up",
    MetricKind.GAUGE,
    "1 while this worker serves, 0 while it is started again; of a gateway of several processes only.",
    ("worker",),
)
WORKER_DEATHS = Definition(
    "tollway_worker_deaths_total",
    MetricKind.COUNTER,
    "Workers that ended though nobody stopped the gateway.",
)
CONFIG_RELOADS = Definition(
    "tollway_config_reloads_total",
    MetricKind.COUNTER,
    "Times that the config was read again while the gateway ran: ok, or failed, and the one before holds on.",
    ("result",),
)
CONFIG_LOADED = Definition(
    "tollway_config_loaded_timestamp_seconds",
    MetricKind.GAUGE,
    "When the config that holds was put in force, in seconds since the epoch; of several workers, the earliest.",
    joined=Joined.MIN,
)
BUILD = Definition(
    "tollway_build_info",
    MetricKind.GAUGE,
    "1; its labels say what runs.",
    ("version", "python"),
    joined=Joined.MAX,
)

CATALOGUE = (
    REQUESTS,
    TOKENS,
    USER_TOKENS,
    CHARGE,
    REQUEST_SECONDS,
    TTFT_SECONDS,
    TPOT_SECONDS,
    QUEUE_WAIT_SECONDS,
    OVERHEAD_SECONDS,
    INFLIGHT,
    ROUTES,
    REFUSALS,
    UPSTREAM_FAILURES,
    UNCOUNTED,
    WASTE_TOKENS,
    HELD_TOKENS,
    CORRECTIONS,
    CREDITED_TOKENS,
    CREDITED_CHARGE,
    REDIS_FAILURES,
    RESERVATIONS_OPEN,
    RESERVATIONS_SUSPECT,
    SUSPECT_TOKENS,
    SETTLE_FAILURES,
    LEDGER_EMPTIED,
    LEDGER_LAG,
    JOURNAL_BYTES,
    JOURNAL_SECONDS,
    JOURNAL_FAILURES,
    REPLICA_UP,
    REPLICA_STALLED,
    REDIS_SECONDS,
    KEY_FETCHES,
    EDGE_REFUSALS,
    STRIPPED_FIELDS,
    WORKER_UP,
    WORKER_DEATHS,
    CONFIG_RELOADS,
    CONFIG_LOADED,
    BUILD,
)
