"""The replicas of one model, looked up by name; the pool owns no connection and makes no choice."""

from collections.abc import Iterable, Iterator

from engine.fleet.replica import Replica, ReplicaSnapshot


class Pool:
    """All replicas that serve one model, in the config's order."""

    def __init__(self, model: str, replicas: Iterable[Replica]) -> None:
        self.model = model
        self._replicas = {replica.name: replica for replica in replicas}

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas.values())

    def __getitem__(self, name: str) -> Replica:
        return self._replicas[name]

    def snapshots(self) -> list[ReplicaSnapshot]:
        """Return every replica as it stands now."""
        return [replica.snapshot() for replica in self._replicas.values()]
