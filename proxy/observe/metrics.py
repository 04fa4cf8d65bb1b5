"""
Turns what happens into Prometheus metrics; the exchange names events here and never a metric.

Rules: tokens and money are counted from the billed record alone, so the ledger's sums and these are equal to the
token; what a CORRECTION takes away is counted apart, since a counter never falls. Every label has a bounded number of
values: callers hand in names that the config knows, or "".

Decision: one `Metrics` per process with a registry of its own. Because two gateways in one process (the tests) must
not count into each other's; instead of prometheus_client's global one.
"""

import platform
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Gauge,
    ProcessCollector,
    generate_latest,
)

from proxy import __version__
from proxy.billing.record import CLIENT_CLOSED, GATEWAY_LOST, OK, SHUTDOWN, ExchangeRecord, Source
from proxy.errors import Code
from proxy.observe import definitions
from proxy.observe.definitions import Definition
from proxy.observe.series import Children, CounterSeries, Distribution, HistogramSeries, Sum, Timings, TokenCounters
from proxy.observe.users import UserTokens
from proxy.store.journal.failure import Failure
from proxy.store.suspects import HeldInSilence

USER_SERIES_MAX = 10_000

RETRIED = "retried"
FAILED = "failed"
ABORTED = "aborted"
UNOBSERVED = "unobserved"
UNREADABLE = "unreadable"
"""The `reason` of waste: see `_waste_reason`."""


class Metrics:
    """The gateway's metrics, with series of their own for at most `user_series_max` users."""

    def __init__(self, user_series_max: int = USER_SERIES_MAX) -> None:
        self._registry = CollectorRegistry()
        self._register_counters(user_series_max)
        self._register_gauges()
        self._register_histograms()
        ProcessCollector(registry=self._registry)

    def _register_counters(self, user_series_max: int) -> None:
        self._user_tokens = UserTokens(user_series_max)
        self._registry.register(self._user_tokens)
        self._tokens = Children(partial(TokenCounters.of, self._counter(definitions.TOKENS)))
        self._requests = self._counter(definitions.REQUESTS)
        self._charge = self._counter(definitions.CHARGE)
        self._routes = self._counter(definitions.ROUTES)
        self._refusals = self._counter(definitions.REFUSALS)
        self._upstream_failures = self._counter(definitions.UPSTREAM_FAILURES)
        self._uncounted = self._counter(definitions.UNCOUNTED)
        self._waste = self._counter(definitions.WASTE_TOKENS)
        self._corrections = self._counter(definitions.CORRECTIONS)
        self._held = self._counter(definitions.HELD_TOKENS)
        self._credited = Children(partial(TokenCounters.of, self._counter(definitions.CREDITED_TOKENS)))
        self._credited_charge = self._counter(definitions.CREDITED_CHARGE)
        self._stripped = self._counter(definitions.STRIPPED_FIELDS)
        self._key_fetches = self._counter(definitions.KEY_FETCHES)
        self._edge_refusals = self._counter(definitions.EDGE_REFUSALS)
        self._redis_failures = self._counter(definitions.REDIS_FAILURES)
        self._settle_failures = self._counter(definitions.SETTLE_FAILURES)
        self._worker_deaths = self._counter(definitions.WORKER_DEATHS)
        self._journal_failures = self._counter(definitions.JOURNAL_FAILURES)
        self._config_reloads = self._counter(definitions.CONFIG_RELOADS)
        # There from the start, so that the first failure is seen as an increase.
        for kind in Failure:
            self._journal_failures[kind,].inc(0)
        for result in (OK, FAILED):
            self._config_reloads[result,].inc(0)

    def _register_gauges(self) -> None:
        self._inflight = self._gauge(definitions.INFLIGHT)
        self._replica_up = self._gauge(definitions.REPLICA_UP)
        self._replica_stalled = self._gauge(definitions.REPLICA_STALLED)
        self._reservations_open = self._gauge(definitions.RESERVATIONS_OPEN)
        self._suspect = self._gauge(definitions.RESERVATIONS_SUSPECT)
        self._suspect_tokens = self._gauge(definitions.SUSPECT_TOKENS)
        self._ledger_lag = self._gauge(definitions.LEDGER_LAG)
        self._journal_bytes = self._gauge(definitions.JOURNAL_BYTES)
        self._ledger_emptied = self._gauge(definitions.LEDGER_EMPTIED)
        self._worker_up = self._gauge(definitions.WORKER_UP)
        self._config_loaded = self._gauge(definitions.CONFIG_LOADED)
        self._gauge(definitions.BUILD).labels(__version__, platform.python_version()).set(1)

    def _register_histograms(self) -> None:
        request = self._histogram(definitions.REQUEST_SECONDS)
        ttft = self._histogram(definitions.TTFT_SECONDS)
        tpot = self._histogram(definitions.TPOT_SECONDS)
        queue_wait = self._histogram(definitions.QUEUE_WAIT_SECONDS)
        overhead = self._histogram(definitions.OVERHEAD_SECONDS)
        self._timings = Children(
            lambda model, lane: Timings(
                *(metric[model, lane] for metric in (request, ttft, tpot, queue_wait, overhead))
            )
        )
        self._redis = self._histogram(definitions.REDIS_SECONDS)
        self._journal = self._histogram(definitions.JOURNAL_SECONDS)[()]

    def _counter(self, metric: Definition) -> Children[Sum]:
        sums = CounterSeries(metric)
        self._registry.register(sums)
        return sums.series

    def _gauge(self, metric: Definition) -> Gauge:
        return Gauge(metric.name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, metric: Definition) -> Children[Distribution]:
        distributions = HistogramSeries(metric)
        self._registry.register(distributions)
        return distributions.series

    def served(self, record: ExchangeRecord, *, request_s: float, overhead_s: float) -> None:
        """Count an exchange that this gateway admitted and settled, with how long it took."""
        self.billed(record)
        timings = self._timings[record.model, record.lane]
        timings.request.observe(request_s)
        timings.overhead.observe(overhead_s)
        timings.queue_wait.observe(record.queue_ms / 1_000)
        if record.stream and record.ttft_ms is not None:
            ttft_s = record.ttft_ms / 1_000
            timings.ttft.observe(ttft_s)
            tokens_after_first = record.completion_tokens - record.n
            if tokens_after_first > 0:
                # The choices of one exchange are generated side by side.
                timings.tpot.observe(max(0.0, request_s - ttft_s) * record.n / tokens_after_first)

    def billed(self, record: ExchangeRecord) -> None:
        """Count what a FINAL record bills, and no times: of an exchange recovered from a gateway that died."""
        self._requests[record.tenant, record.model, record.lane, record.outcome].inc()
        self._tokens[record.tenant, record.model].add(record)
        self._user_tokens.add(record)
        if record.charge_picos:
            self._charge[record.tenant, record.model, record.currency].inc(record.charge_picos)
        if record.wasted_tokens:
            self._waste[record.model, _waste_reason(record)].inc(record.wasted_tokens)

    def corrected(self, record: ExchangeRecord) -> None:
        """Count what a CORRECTION adds to a bill where bills are counted, and apart from them what it takes away."""
        self._corrections[record.tenant, record.model].inc()
        self._tokens[record.tenant, record.model].add(record)
        self._user_tokens.add(record)
        self._credited[record.tenant, record.model].take_away(record)
        charge = self._charge if record.charge_picos > 0 else self._credited_charge
        if record.charge_picos:
            charge[record.tenant, record.model, record.currency].inc(abs(record.charge_picos))

    def held(self, tenant: str, model: str, tokens: int) -> None:
        """Count what a quota keeps of an answer of which no usage is known."""
        self._held[tenant, model].inc(tokens)

    def turned_away(self, tenant: str, model: str, lane: str, outcome: str) -> None:
        """Count a request that was never admitted; a tenant, model or lane that is not known for sure is ""."""
        self._requests[tenant, model, lane, outcome].inc()

    def limited(self, limit: str, reason: str) -> None:
        """Count a refusal; the limit, "" for none, and the reason must be names of ours."""
        self._refusals[limit, reason].inc()

    def routed(self, model: str, replica: str, reason: str) -> None:
        """Count a routing decision."""
        self._routes[model, replica, reason].inc()

    def upstream_failed(self, model: str, replica: str, reason: str) -> None:
        """Count an attempt that a replica failed."""
        self._upstream_failures[model, replica, reason].inc()

    def uncounted(self, model: str, replica: str) -> None:
        """Count an answer of which its replica did not say what it used."""
        self._uncounted[model, replica].inc()

    def inflight(self, model: str, replica: str, count: Callable[[], int]) -> None:
        """Ask `count`, in any thread, how many requests are in flight on a replica, whenever it is shown."""
        self._inflight.labels(model, replica).set_function(count)
        # There from the start, so that the first answer that is not counted is seen as an increase.
        self._uncounted[model, replica].inc(0)

    def replica_up(self, model: str, replica: str, *, up: bool) -> None:
        """Tell whether a replica takes requests."""
        self._replica_up.labels(model, replica).set(up)

    def replica_stalled(self, model: str, replica: str, *, stalled: bool) -> None:
        """Tell whether a replica's engine generates nothing while requests run on it."""
        self._replica_stalled.labels(model, replica).set(stalled)

    def replica_left(self, model: str, replica: str) -> None:
        """Show a replica no longer: what was counted of it goes with it."""
        for gauge in (self._inflight, self._replica_up, self._replica_stalled):
            with suppress(KeyError):
                gauge.remove(model, replica)
        for series in (self._routes, self._uncounted):
            for values in [values for values in series if values[:2] == (model, replica)]:
                del series[values]

    def redis(self, op: str, seconds: float) -> None:
        """Note one round trip to Redis; `op` is a script's or a command's name."""
        self._redis[(op,)].observe(seconds)

    def redis_failed(self, reason: str) -> None:
        """Count a call that Redis did not take, by the code of its error."""
        self._redis_failures[(reason,)].inc()

    def settle_failed(self) -> None:
        """Count a settlement or a release that Redis did not take."""
        self._settle_failures[()].inc()

    def keys_fetched(self, issuer: str, ok: bool) -> None:  # noqa: FBT001
        """Count a try to fetch an issuer's published keys."""
        self._key_fetches[issuer, "ok" if ok else "failed"].inc()

    def refused(self, reason: str) -> None:
        """Count a connection or a request that the edge refused."""
        self._edge_refusals[(reason,)].inc()

    def journal_wrote(self, seconds: float) -> None:
        """Note one write to the write-ahead log; safe in another thread."""
        self._journal.observe(seconds)

    def journal_failed(self, kind: Failure) -> None:
        """Count a write to the log that failed, or an entry that is damaged."""
        self._journal_failures[(kind,)].inc()

    def journal_holds(self, records: Callable[[], int], size: Callable[[], int]) -> None:
        """Ask, in any thread, how many entries await Redis and how many bytes the log has, whenever it is shown."""
        self._ledger_lag.set_function(records)
        self._journal_bytes.set_function(size)

    def fields_stripped(self, endpoint: str, fields: Iterable[str]) -> None:
        """Count request fields that were left out; the names must be the engine's own, or one for all others."""
        for name, count in Counter(fields).items():
            self._stripped[endpoint, name].inc(count)

    def reservations_open(self, count: Callable[[], int]) -> None:
        """Ask `count`, in any thread, how many of this gateway's exchanges hold a reservation, whenever it is shown."""
        self._reservations_open.set_function(count)

    def suspect(self, found: HeldInSilence) -> None:
        """Tell what windows keep for gateways that nobody hears of."""
        self._suspect.set(found.reservations)
        self._suspect_tokens.set(found.tokens)

    def ledger_emptied(self, lost: Callable[[], bool]) -> None:
        """Ask `lost`, in any thread, whether Redis is without the data that is remembered, whenever it is shown."""
        self._ledger_emptied.set_function(lost)

    def worker_up(self, place: int, *, up: bool) -> None:
        """Tell whether a worker of this gateway serves."""
        self._worker_up.labels(str(place)).set(up)

    def worker_died(self) -> None:
        """Count a worker that ended though nobody stopped it."""
        self._worker_deaths[()].inc()

    def config_loaded(self) -> None:
        """Note that another config holds from now on."""
        self._config_loaded.set_to_current_time()

    def config_reloaded(self, *, ok: bool) -> None:
        """Count a try to put another config in force."""
        self._config_reloads[(OK if ok else FAILED,)].inc()

    def keep_users_apart(self, series_max: int) -> None:
        """Give at most so many users series of their own from now on; who has some keeps them."""
        self._user_tokens.series_max = series_max

    def render(self) -> tuple[bytes, str]:
        """Return the exposition and its content type; safe in another thread, where a long one holds up no stream."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


def _waste_reason(record: ExchangeRecord) -> str:
    """Return the one reason for which an exchange's waste is counted, by how the exchange ended."""
    if record.source is Source.UNOBSERVED:
        return UNOBSERVED
    if record.outcome == OK:
        return RETRIED
    if record.source is Source.ENGINE and record.outcome == Code.UPSTREAM_ERROR:
        return UNREADABLE
    return ABORTED if record.outcome in (CLIENT_CLOSED, SHUTDOWN, GATEWAY_LOST) else FAILED
