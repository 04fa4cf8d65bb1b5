"""A gateway over replicas that outlive it, and what a test reads of its ledger from outside."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from proxy.billing.record import ExchangeRecord
from proxy.redis.client import RedisClient
from proxy.redis.embedded.server import address
from proxy.store import keys, ledger
from tests.e2e.gateway import Running, gateway_of
from tests.sim_process import SimProcess, running_sim

CONFIG = Path(__file__).with_name("chaos.toml")
TENANT = "acme"
LEASE_S = 15.0
"""An incarnation is dead after 10 s without a beat, and a sweep comes every 5 s."""
DEADLINE_S = 20.0


@dataclass(frozen=True)
class System:
    """Two replicas, and the folder that one gateway after the other works in."""

    folder: Path
    replicas: tuple[SimProcess, ...]

    def gateway(self) -> AbstractContextManager[Running]:
        """Run a gateway on the same data as the one before it."""
        return gateway_of(CONFIG, self.folder, environment=self._urls)

    def another(self) -> AbstractContextManager[Running]:
        """Run a second gateway, with a folder of its own, on the Redis of the first."""
        folder = self.folder / "another"
        folder.mkdir()
        return gateway_of(CONFIG, folder, environment=self._urls | {"TOLLWAY__REDIS__URL": self.redis_url})

    @property
    def redis_url(self) -> str:
        """Return where the gateway's own Redis is."""
        return address(self.folder / "data")

    @property
    def _urls(self) -> dict[str, str]:
        return {
            f"TOLLWAY__MODELS__0__REPLICAS__{place}__URL": f"http://{replica.address}"
            for place, replica in enumerate(self.replicas)
        }

    async def generated(self) -> int:
        """Return how many tokens the replicas generated."""
        return sum([(await replica.stats())["generated_tokens"] for replica in self.replicas])

    async def open(self) -> list[str]:
        """Return the incarnations of the reservations that are open or suspect, each once for each."""
        async with self._redis() as connection:
            indexes = (keys.open_index(TENANT), keys.suspect_index(TENANT))
            members = [member for index in indexes for member in await connection.call("ZRANGE", index, 0, -1)]
        return [keys.read_open_member(member)[0] for member in members]

    async def rows(self) -> list[tuple[str, ExchangeRecord]]:
        """Return the rows of the ledger with their kinds."""
        async with self._redis() as connection:
            found = ledger.read(connection, [TENANT], 0, 2**52)
            return [(entry.kind, entry.record) async for entry in found]

    def _redis(self) -> RedisClient:
        return RedisClient(self.redis_url, deadline_s=DEADLINE_S)


@contextmanager
def system(folder: Path, *options: str) -> Iterator[System]:
    """Run two replicas for the block."""
    with running_sim("--model", "demo", *options) as first, running_sim("--model", "demo", *options) as second:
        yield System(folder, (first, second))
