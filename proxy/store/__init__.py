"""
What must outlive a request: quotas, reservations and the ledger in Redis, and this gateway's write-ahead log.

The nouns:
- A **reservation** is what one exchange holds on the limits of its plan, `PENDING -> SETTLED | RELEASED | EXPIRED`:
  its steps (`reservations`), those in Redis (`redis_reservations`, `scripts`, `lua/`), how its limits get there
  (`compiled_limits`), what a sweep finds of it (`open_reservation`), and every key (`keys`).
- An **end** is a settle or a release. `outbox/` sends it, or owes it and sends it again; `journal/` has each settle on
  disk first; `late_records` are those that Redis has forgotten.
- `membership/` knows who lives on this Redis and whether its data was lost; `sweeper` ends what the dead left open.
- `quotas` tells how limits stand, and gives what an operator grants of them.
- The **ledger** is a stream for each tenant, of FINAL and CORRECTION rows (`ledger`), read by queries as `ledger_rows`.
- `revocations` is the list of what tokens are no longer good for.

Decision: every step of a reservation is one Lua script over the keys of one tenant, and may be sent again.
Because: all limits must move together or not at all, and an answer that was lost must be asked for without charging
twice.
Instead of: transactions (WATCH), which are tried anew just when everybody wants the same counter; or reading here and
writing there, which lets two gateways pass the same limit.

Decision: a settle goes to the gateway's disk and to Redis side by side, and counts as ended with either.
Because: Redis may lose its last second and be away for an hour, and a client that has its answer must have been billed.
Instead of: `appendfsync always` and WAIT, which make every request wait for the slowest disk and may still lose it in a
failover.

Decision: Redis' clock decides for limits, heartbeats and sweeps.
Because: gateways' clocks differ.
Instead of: a time that each caller tells.

What of this a gateway of another version may read, and what it leaves alone: `proxy.versions`.

Must not know stages, listeners or metrics: it tells callbacks.
"""
