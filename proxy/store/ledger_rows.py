"""The ledger as a query of the bill reads it (`proxy.billing.query.UsageRows`)."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection

from proxy.billing.entry import Entry
from proxy.billing.query import Period
from proxy.redis.client import RedisClient
from proxy.store import ledger
from proxy.store.membership.incarnation import tenants as every_tenant


class LedgerRows:
    """
    The rows in Redis, tenant by tenant.

    `between` is awaited after each batch, with the number of its rows; what it raises ends the reading.
    Raises: LedgerUnavailable, while it reads.
    Bounds: `batch` rows in memory.
    """

    def __init__(
        self,
        connection: RedisClient,
        *,
        batch: int = ledger.BATCH,
        between: Callable[[int], Awaitable[None]] = ledger.at_once,
    ) -> None:
        self._connection = connection
        self._batch = batch
        self._between = between

    async def entries(
        self, tenants: Collection[str] | None, period: Period, unreadable: Callable[[str, str], None]
    ) -> AsyncIterator[Entry]:
        """Yield what was written in a period: of these tenants, of everybody who ever reserved for None."""
        asked = await every_tenant(self._connection) if tenants is None else sorted(tenants)
        async for entry in ledger.read(
            self._connection,
            asked,
            period.from_us,
            period.to_us,
            unreadable=unreadable,
            batch=self._batch,
            between=self._between,
        ):
            yield entry
