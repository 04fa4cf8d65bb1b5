"""The replicas of one model, looked up by name; the pool owns no connection and makes no choice."""

from collections.abc import Iterable, Iterator

from engine.fleet.replica import Replica, ReplicaSnapshot


class Pool:
    """All replicas that serve one model, in the config's order; who they are changes as a whole."""

    def __init__(self, model: str, replicas: Iterable[Replica] = ()) -> None:
        self.model = model
        self.leaving: set[Replica] = set()
        """Those that get no more work and have some yet."""
        self.arrange(replicas)

    def arrange(self, replicas: Iterable[Replica]) -> None:
        """Let these and no others be given work from now on."""
        self._replicas = {replica.name: replica for replica in replicas}
        self.leaving.difference_update(self._replicas.values())

    def __iter__(self) -> Iterator[Replica]:
        return iter(self._replicas.values())

    def has(self, replica: Replica) -> bool:
        """Tell whether a replica may be given work: it, and no other of its name."""
        return self._replicas.get(replica.name) is replica

    def __getitem__(self, name: str) -> Replica:
        return self._replicas[name]

    def snapshots(self) -> list[ReplicaSnapshot]:
        """Return every replica as it stands now."""
        return [replica.snapshot() for replica in self._replicas.values()]
