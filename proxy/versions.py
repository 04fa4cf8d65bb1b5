"""
Which version of its own texts a gateway writes and reads: records, reservations, entries of the write-ahead log.

Rules:
- One number for all of them, `WRITTEN`. It is the first value of a record (`proxy.billing.record`), the first word of a
  line of the log (`proxy.store.journal.lines`), and a word such as `v2` in a reservation (told in
  `proxy/store/lua/lib/reservations.lua`); one without that word is of version 2.
- What may be added without a new number is what each of those three says that a reader passes over. Any other change
  raises `WRITTEN`, and whoever raises it reads the version before too (`READ`): so old and new gateways run side by
  side on one Redis, and an upgrade is undone by starting the old ones. Rows of the ledger are read for as long as there
  are any.
- Who meets a newer version leaves it where it is, says so, and does the rest of its work: `NewerVersion`. A newer
  gateway sweeps the reservation, reads the row, takes the folder of the log.
- What all gateways move together has no number: counters, places in flight, the index of open reservations, who lives,
  tenants, revocations, generations. Old and new write the same key there, so its form only grows by what older ones
  pass over; another form gets another key (`proxy.store.keys`).

Decision: a number in each text. Because gateways of two versions share a Redis while they are replaced, and each must
know of every text whether it can read it; instead of a number of the whole Redis that a start migrates, which stops
the old ones, or of telling versions by their looks.
"""

WRITTEN = 3
READ = frozenset({2, 3})
"""The present one, and the one before it, which told charges in millionths (`MICROS`). Version 1 was never released."""

MICROS = 2
"""The last version that wrote charges in millionths of a currency, and no field that came with 3."""


class NewerVersion(ValueError):
    """A newer gateway wrote this, and only such a one may touch it."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"of version {version}, and this gateway reads up to {WRITTEN}")


def check(version: object) -> None:
    """
    Pass a version that is read.

    Raises: NewerVersion; ValueError, for an older one and for what is none.
    """
    if type(version) is not int or version < 1:
        raise ValueError("of no version")
    if version > WRITTEN:
        raise NewerVersion(version)
    if version not in READ:
        raise ValueError(f"of version {version}, which is not read any more")
