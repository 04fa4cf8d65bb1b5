"""
Every event that the gateway logs: its level, what it means, and the fields that its line has.

A call that logs stands where the thing happens, in any package: `_log.error("journal_damaged", extra={"path": ...})`.
Its event is a literal of this table, and what it adds are fields of this event; a test walks all calls and compares
both ways, so that no line loses a field and none here is left over.

Decision: a table and a test. Because the engine and the store may not import what observes them, and a formatter that
writes only these fields cannot tell what a client sent, whoever adds what to a line. Instead of a function for each
event, which every package would import from here for the sake of two words.
"""

from typing import NamedTuple

from proxy.billing.record import ExchangeRecord

FIELDS = {
    "address": "where Redis is",
    "amount": "how many tokens or requests",
    "calls": "how many calls of Redis",
    "changed": "what of the config is different, each by its path",
    "entries": "how many entries of the write-ahead log",
    "epoch": "the data that this gateway remembers",
    "faults": "what is wrong with a config, each with its path",
    "incarnation": "the start of a gateway (ULID)",
    "issuer": "an issuer of the config",
    "kept": "the file in which damaged lines are kept",
    "lines": "how many lines",
    "limit": "a limit of a plan, by its name",
    "model": "a model of the config",
    "operator": "the account of this machine that ran a command",
    "needs_restart": "what of the config waits for the next start, each by its path",
    "path": "a file or a folder of the gateway's own",
    "pid": "a process",
    "place": "where an entry begins in its file, in bytes",
    "primaries": "addresses of Redis' primaries",
    "primary": "the address of Redis' primary",
    "reason": "why, in words of ours or of the system",
    "replica": "a replica of the config",
    "request_id": "the exchange (ULID), as its client was told it",
    "seconds": "how long it took",
    "task": "which work in the background",
    "tenant": "a tenant of the config",
    "unlogged": "how many of the same kind had no line since the last one",
    "url": "where a replica is",
    "user": "a user of a tenant, as an operator named it",
    "was": "what it was before",
    "worker": "a worker, counted from 0",
}
"""What a line may have, and what that is. None of it is anything that a client sent."""


class Event(NamedTuple):
    """One event. Its name stands in `EVENTS`; lines of level error also tell an exception, where there is one."""

    level: str
    says: str
    fields: frozenset[str] = frozenset()
    """What a line of it may have, beside `time`, `level`, `event`, `logger` and `exception`."""


def _event(level: str, says: str, *fields: str) -> Event:
    return Event(level, says, frozenset(fields))


EVENTS = {
    # Exchanges
    "exchange": _event(
        "info",
        "an exchange ended: its record, every try, and which limit refused it",
        "tries",
        "refused",
        *ExchangeRecord._fields,
    ),
    "correction": _event("info", "a bill was corrected by these differences", *ExchangeRecord._fields),
    "exchange_failed": _event("error", "a fault of ours in an exchange", "request_id"),
    "request_failed": _event("error", "a fault of ours in answering a request", "request_id"),
    "progress_failed": _event("warning", "Redis did not note how far exchanges are"),
    "token_refused": _event(
        "info", "nobody's token; so many before were told no line", "request_id", "reason", "unlogged"
    ),
    # The bill on its way to Redis
    "settle_failed": _event("error", "a settlement was not taken and is owed", "request_id"),
    "release_failed": _event("error", "a release was not taken and is owed", "request_id"),
    "owed_failed": _event("warning", "what is owed was sent again and not taken"),
    "owed_left": _event("warning", "at the stop this is left on the disk for the next start", "entries"),
    "end_lost": _event("error", "a settlement or release is given up", "request_id"),
    "replay_failed": _event("warning", "the write-ahead log could not be sent again or trimmed"),
    "settle_unreadable": _event("error", "an entry of the log is no settlement", "path", "place"),
    # The write-ahead log
    "journal_adopted": _event("warning", "what a dead gateway left on this disk is sent", "entries"),
    "journal_damaged": _event("error", "lines are not what was written", "path", "place", "lines", "kept"),
    "journal_failed": _event("error", "the disk does not take the log", "reason"),
    "journal_healed": _event("warning", "the disk takes the log again"),
    "journal_lost": _event("error", "settlements were in a file that somebody removed", "path", "entries"),
    "journal_newer": _event("error", "a newer gateway wrote this log; it is left to such a one", "path", "reason"),
    "journal_removed": _event("error", "somebody removed the log of a running gateway; it is made again", "path"),
    "journal_unreadable": _event("error", "a folder of the log cannot be read", "path"),
    # Redis and who lives on it
    "draft_unreadable": _event("error", "an open reservation cannot be read, and is left", "request_id"),
    "embedded_redis_back": _event("warning", "the embedded Redis serves again"),
    "embedded_redis_ended": _event("error", "the embedded Redis ended, and is started again", "reason"),
    "epoch_found_again": _event("warning", "the data that was missing is back"),
    "epoch_lost": _event("error", "Redis does not have the data that this gateway remembers", "epoch"),
    "epoch_not_written_down": _event("error", "the next start will not know which data this is"),
    "heartbeat_failed": _event("warning", "Redis did not take a heartbeat"),
    "ledger_unreadable": _event("error", "a row of the ledger is left out", "tenant", "reason"),
    "redis_away": _event("error", "Redis does not answer, or refuses; what fails then is counted", "address", "reason"),
    "redis_back": _event("warning", "Redis takes everything again", "address", "seconds", "calls"),
    "redis_cluster_changed": _event("warning", "other primaries serve the cluster", "primaries"),
    "redis_failover": _event("warning", "another primary has taken over", "primary", "was"),
    "redis_restarted": _event("warning", "Redis is another process; what it may have lost is sent again"),
    "revocations_lost": _event("error", "Redis lost revocations; what is known of them is put back"),
    "revocation_unreadable": _event("error", "a revocation is of a kind that is not known, and not in force", "reason"),
    "revocations_not_read": _event("warning", "Redis did not tell what is revoked; the last list holds"),
    "sweep_failed": _event("warning", "what dead gateways left open could not be ended"),
    "tenant_data_lost": _event("error", "Redis does not have this tenant's data", "tenant"),
    # Whose tokens are good
    "keys_not_fetched": _event("warning", "an issuer's keys could not be fetched", "issuer", "reason"),
    "keys_stale": _event("error", "an issuer's keys are too old to be believed", "issuer"),
    # What operators do
    "quota_granted": _event(
        "info", "more of a limit was given", "tenant", "user", "model", "limit", "amount", "operator"
    ),
    "quota_reset": _event(
        "info", "what is used was given back", "tenant", "user", "model", "limit", "amount", "operator"
    ),
    # Processes
    "background_failed": _event("error", "work in the background failed, and begins again", "task"),
    "config_not_reloaded": _event("error", "the config was read again, and the one before holds on", "faults"),
    "config_reloaded": _event("info", "the config was read again, and holds", "changed", "needs_restart"),
    "descriptors_short": _event("warning", "fewer clients are let in than the config says", "reason"),
    "replica_down": _event("warning", "a replica is given no work", "replica", "url", "reason"),
    "replica_goes_on": _event("info", "the engine of a replica that had stalled generates again", "replica"),
    "replica_left": _event("info", "nothing runs any more on a replica that the config has no longer", "replica"),
    "replica_process": _event("info", "what became of a launched replica's process", "replica", "reason"),
    "replica_stalled": _event("warning", "an engine generates nothing that should", "replica", "url", "reason"),
    "replica_up": _event("info", "a replica is given work", "replica"),
    "worker_ended": _event("error", "a worker ended, and is started again", "worker", "reason"),
    "worker_hung": _event("error", "a worker does not answer, and is killed", "worker", "reason"),
    "worker_serves": _event("info", "a worker serves", "worker", "pid", "incarnation"),
}
