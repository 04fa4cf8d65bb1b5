"""
Records that come when nothing in Redis remembers their reservation: only the ledger can tell whether they are billed.

Rules:
- One gateway at a time looks for a record and appends it: the right to do so is a key that expires, and the script
  that appends looks whether the right still stands. Who loses it begins anew.
- No limit moves: the windows that such a record belongs to are closed, or their counters are lost.
- A FINAL that a sweeper wrote gets a CORRECTION, once; any other FINAL of the request is the record's own, written by
  an earlier send that was not answered.
- A row that cannot be read and names the request may be its FINAL: nothing is appended, and the record stays owed until
  a gateway comes that reads the row.

Must not know why a record is late.
"""

from proxy.billing.entry import CORRECTION, FINAL, Entry
from proxy.billing.record import ExchangeRecord, Source, correction, written
from proxy.errors import LedgerUnavailable
from proxy.redis.client import RedisClient
from proxy.store import keys, ledger, scripts
from proxy.store.reservations import Settlement

RIGHT_MS = 60_000
CLOCKS_APART_US_MAX = 300 * 1_000_000
"""A gateway's clock tells when a request began, Redis' when its row was written."""


async def append(connection: RedisClient, record: ExchangeRecord, who: str) -> Settlement:
    """
    Append a record unless the ledger has it.

    Raises: LedgerUnavailable, also while somebody else appends it: who comes again finds it.
    Bounds: reads the tenant's ledger from the record's start on, `ledger.BATCH` rows at a time.
    """
    guard = keys.late(record.tenant, record.request_id)
    final, corrected = await _found(connection, record, guard, who)
    if final is None:
        return Settlement(await _append(connection, guard, who, Entry("*", FINAL, record)), ours=True)
    if corrected or final.record.source is not Source.RECOVERED or record.source is Source.RECOVERED:
        return Settlement(final.id, ours=final.record == record and record.incarnation == who)
    difference = correction(record, final.record)
    await _append(connection, guard, who, Entry("*", CORRECTION, difference))
    return Settlement(final.id, ours=False, correction=difference)


async def _found(connection: RedisClient, record: ExchangeRecord, guard: str, who: str) -> tuple[Entry | None, bool]:
    """Return the request's FINAL and whether it has a CORRECTION, holding the right to append when it returns."""
    await _hold(connection, guard, who)
    final, corrected = None, False
    begin_us, rows = max(0, record.started_at - CLOCKS_APART_US_MAX), 0
    unreadable: list[str] = []
    found = ledger.read(
        connection, [record.tenant], begin_us, ledger.NEVER_US, unreadable=lambda _, row: unreadable.append(row)
    )
    async for entry in found:
        rows += 1
        if rows % ledger.BATCH == 0:
            await _hold(connection, guard, who)
        if entry.record.request_id == record.request_id:
            corrected = corrected or entry.kind == CORRECTION
            final = entry if entry.kind == FINAL else final
    for row in unreadable:
        await _check_other(connection, record, row)
    return final, corrected


async def _check_other(connection: RedisClient, record: ExchangeRecord, row: str) -> None:
    """Raise LedgerUnavailable for a row that cannot be read and may be this request's."""
    for _, values in await connection.call("XRANGE", keys.ledger(record.tenant), row, row):
        if record.request_id in values.get("record", ""):
            ledger.log_unreadable(record.tenant, row)
            raise LedgerUnavailable("A newer version wrote what the ledger has of this request.")


async def _hold(connection: RedisClient, guard: str, who: str) -> None:
    if (await connection.run(scripts.CLAIM, [guard], [who, RIGHT_MS])).split()[1] == "0":
        raise LedgerUnavailable("Another gateway appends this record.")


async def _append(connection: RedisClient, guard: str, who: str, entry: Entry) -> str:
    touched = [guard, keys.ledger(entry.record.tenant)]
    entry_id = (
        await connection.run(scripts.APPEND, touched, [who, RIGHT_MS, entry.kind, written(entry.record).decode()])
    ).split()[1]
    if entry_id == "-":
        raise LedgerUnavailable("The right to append this record ran out.")
    return entry_id
