"""Both listeners' applications, called as a server calls them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from proxy.api.admin import Operations, OwnState
from proxy.api.health import Vitals
from proxy.api.reports import Reports
from proxy.api.site import admin_site, public_site
from proxy.compose.reload import NotReloaded, Reloaded
from proxy.edge.connections import Connections
from proxy.edge.edge import Edge
from proxy.errors import LedgerUnavailable
from tests.unit.proxy.gateway import Gateway, gateway
from tests.unit.proxy.memory_rows import MemoryRows
from tests.unit.proxy.played_client import PlayedClient
from tests.unit.proxy.played_upstream import replays

Get = Callable[..., Any]


@pytest.fixture
def edge() -> Edge:
    return Edge(connections=Connections(10, 10), head_s_max=10.0)


class BothWays:
    """Both ways into a gateway, as its edge has them: a POST that is forwarded has a direct cycle."""

    def __init__(self, site: Any, edge: Edge) -> None:
        self._site = site
        self._edge = edge

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        serve = self._edge.direct.get(scope["path"].encode()) if scope["method"] == "POST" else None
        if serve is None:
            await self._site(scope, receive, send)
            return
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        client = PlayedClient((await receive())["body"], headers)
        await serve(client)  # type: ignore[arg-type]
        for message in client.messages:
            await send(message)


class Ping:
    """What a site asks of its store's health: whether Redis takes writes, has its data, and the disk takes the log."""

    def __init__(self) -> None:
        self.answers = True
        self.lost = False
        self.says: Exception | None = None
        """What Redis said, where it does not take writes."""
        self.why = ""
        """Why the log cannot be written."""

    @property
    def generation(self) -> "Ping":
        return self

    @property
    def writable(self) -> bool:
        return not self.why

    async def can_write(self) -> None:
        if not self.answers:
            raise LedgerUnavailable from self.says


@pytest.fixture
def gw(tmp_path: Path) -> Gateway:
    return gateway(tmp_path, a=[replays("100-chat")], b=[])


@pytest.fixture
def redis() -> Ping:
    return Ping()


@pytest.fixture
def rows() -> MemoryRows:
    return MemoryRows()


@pytest.fixture
def public(gw: Gateway, redis: Ping, rows: MemoryRows, edge: Edge) -> httpx.AsyncClient:
    vitals = Vitals(redis, redis)  # type: ignore[arg-type]
    site = public_site(gw.exchange, gw.pools, gw.store, vitals, edge=edge, reports=Reports(rows.reader))
    return httpx.AsyncClient(transport=httpx.ASGITransport(BothWays(site, edge)), base_url="http://gateway")


class Reloads:
    """A reload that comes to what a test says."""

    def __init__(self) -> None:
        self.asked = 0
        self.outcome: Reloaded | NotReloaded = Reloaded((), ())

    async def __call__(self) -> Reloaded | NotReloaded:
        self.asked += 1
        return self.outcome


@pytest.fixture
def reload() -> Reloads:
    return Reloads()


@pytest.fixture
def admin(gw: Gateway, reload: Reloads) -> httpx.AsyncClient:
    site = admin_site(Operations(OwnState(gw.pools, gw.metrics), reload, ["tollway.internal"]))
    return httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://admin")  # type: ignore[arg-type]


@pytest.fixture
def bearer(gw: Gateway) -> dict[str, str]:
    return {"authorization": f"Bearer {gw.token()}"}
