"""What a config that holds tells those who serve no single request."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from engine.wire.client import DirectUpstream
from proxy.catalog import Catalog
from proxy.compose import followers
from proxy.edge.connections import Connections
from proxy.edge.edge import Edge
from proxy.http.listeners import Drain
from proxy.identity.tokens import Verifier
from proxy.in_force import Config
from proxy.observe.metrics import Metrics
from proxy.settings.loading import parse
from tests.exposition import total
from tests.unit.proxy.gateway import CONFIG


def config(folder: Path, limits: str = "", sequences: int = 4) -> Config:
    text = CONFIG.replace("[limits]", f"[limits]\n{limits}").replace("sequences = 4", f"sequences = {sequences}")
    settings = parse(text, {}, folder=folder)
    return Config.of(settings, Catalog.of(settings), cast("Verifier", None))


def test_a_drain_is_as_long_as_the_config_says_that_holds_when_it_begins(tmp_path: Path) -> None:
    hurried = asyncio.Event()
    drain = Drain(0, hurried=hurried)
    followers.drain(drain, config(tmp_path, "drain_s_max = 7.0\ndrain_notice_s = 3.0"))
    assert (drain.s_max, drain.notice_s, drain.hurried) == (7, 3, hurried)


def test_bounds_that_are_no_requests_own_follow(tmp_path: Path) -> None:
    edge = Edge(connections=Connections(10, 10), head_s_max=1.0)
    upstream, metrics = DirectUpstream(1.0), Metrics()
    limits = "write_s_max = 7.0\nconnect_s_max = 3.0\nuser_series_max = 0"
    followers.bounds(config(tmp_path, limits), edge=edge, upstream=upstream, metrics=metrics)
    assert (edge.write_s_max, upstream.connect_s_max) == (7, 3)
    assert total(metrics.render()[0].decode(), "tollway_config_loaded_timestamp_seconds") > 0


def test_room_is_looked_at_again_where_replicas_may_have_more_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []

    def room(wanted: int, upstream: int) -> int:
        asked.append((wanted, upstream))
        return wanted - upstream

    monkeypatch.setattr(followers, "room_for_clients", room)
    connections = Connections(1, 1)
    following: Any = followers.Room(connections, 100)
    for sequences in (4, 4, 5):
        following.make(config(tmp_path, sequences=sequences))
    assert asked == [(10_000, 100 + 3 * 4), (10_000, 100 + 3 * 5)]
    assert connections.total_max == 10_000 - 115
