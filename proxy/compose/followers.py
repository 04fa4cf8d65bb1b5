"""
Who follows the config that holds without being a request: the drain, the edge, the line to replicas, the metrics.

Each is told of every config, also of those between the steps of a reload, and fails at none.
"""

from dataclasses import dataclass

from engine.wire.client import DirectUpstream
from proxy.compose.descriptors import room_for_clients
from proxy.edge.connections import Connections
from proxy.edge.edge import Edge
from proxy.http.listeners import Drain
from proxy.in_force import Config
from proxy.observe.metrics import Metrics


def drain(how: Drain, config: Config) -> None:
    """Stop as the config says that holds then."""
    how.s_max, how.notice_s = config.bounds.drain_s_max, config.bounds.drain_notice_s


def bounds(config: Config, *, edge: Edge, upstream: DirectUpstream, metrics: Metrics) -> None:
    """Give clients and replicas their time, users their series, and the config its own."""
    edge.write_s_max = config.bounds.write_s_max
    upstream.connect_s_max = config.bounds.connect_s_max
    metrics.keep_users_apart(config.bounds.user_series_max)
    metrics.config_loaded()


@dataclass(slots=True)
class Room:
    """The room for clients that the gateway's other connections leave of the process's descriptors."""

    connections: Connections
    operators_max: int
    _sequences: int = -1

    def make(self, config: Config) -> None:
        """Look at it again where there may be more connections to replicas, or fewer."""
        sequences = sum(replica.sequences for model in config.settings.models for replica in model.replicas)
        if sequences != self._sequences:
            self._sequences = sequences
            wanted = config.settings.listen.connections_max
            self.connections.total_max = room_for_clients(wanted, self.operators_max + sequences)
