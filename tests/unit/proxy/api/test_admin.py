import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engine.fleet.trouble import Trouble
from proxy.compose.reload import NotReloaded, Reloaded
from proxy.settings import ConfigFault
from proxy.settings.difference import Change, ChangeKind
from tests.unit.proxy.api.conftest import Reloads
from tests.unit.proxy.gateway import Gateway


async def test_a_scrape_is_prometheus_text(admin: httpx.AsyncClient, gw: Gateway) -> None:
    gw.metrics.turned_away("acme", "demo", "interactive", "queue_full")
    answer = await admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "tollway_requests" in {family.name for family in text_string_to_metric_families(answer.text)}


async def test_replicas_are_shown_as_they_stand(admin: httpx.AsyncClient, gw: Gateway) -> None:
    gw.pools["demo"]["a"].stall = "no token for 12 s while 3 requests run"
    gw.pools["demo"]["b"].lost(Trouble("Connection refused", gone=True))
    with gw.pools["demo"]["a"].lease(2, 100, expected_end_us=7):
        shown = (await admin.get("/admin/replicas")).json()["data"]
    assert [(line["model"], line["name"], line["healthy"]) for line in shown] == [
        ("demo", "a", True),
        ("demo", "b", False),
        ("secret", "s", True),
    ]
    assert [line["stalled"] for line in shown] == [True, False, False]
    assert [line["cause"] for line in shown] == ["no token for 12 s while 3 requests run", "Connection refused", None]
    assert (shown[0]["url"], shown[0]["inflight_sequences"], shown[0]["inflight_tokens"]) == ("http://a", 2, 100)


async def test_those_that_leave_are_shown_behind_the_others_until_they_have_left(
    admin: httpx.AsyncClient, gw: Gateway
) -> None:
    pool = gw.pools["demo"]
    pool.leaving.add(pool["a"])
    pool.arrange([pool["b"]])
    shown = (await admin.get("/admin/replicas")).json()["data"]
    assert [(line["name"], line["leaving"]) for line in shown] == [("b", False), ("a", True), ("s", False)]


ASK = {"content-type": "application/json", "host": "localhost:9090"}


async def test_a_reload_tells_what_is_different_and_what_waits(admin: httpx.AsyncClient, reload: Reloads) -> None:
    reload.outcome = Reloaded(
        (Change(ChangeKind.ADDED, "tenants.hooli"),), (Change(ChangeKind.CHANGED, "listen.port"),)
    )
    answer = await admin.post("/admin/reload", headers=ASK)
    assert answer.status_code == 200
    assert answer.json() == {
        "object": "reload",
        "result": "ok",
        "changed": [{"kind": "added", "path": "tenants.hooli"}],
        "needs_restart": [{"kind": "changed", "path": "listen.port"}],
    }


async def test_a_reload_that_is_refused_tells_every_fault(admin: httpx.AsyncClient, reload: Reloads) -> None:
    reload.outcome = NotReloaded((ConfigFault("a.b", "is missing"), ConfigFault("", "is not TOML")))
    answer = await admin.post("/admin/reload", headers=ASK, content=b"{}")
    assert answer.status_code == 422
    assert answer.json() == {
        "object": "reload",
        "result": "refused",
        "faults": [{"path": "a.b", "message": "is missing"}, {"path": "", "message": "is not TOML"}],
    }


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9090",
        "127.0.0.1",
        "[::1]:9090",
        "10.0.0.7:9090",
        "localhost:9090",
        "LOCALHOST",
        "tollway.internal:80",
    ],
)
async def test_it_is_called_by_addresses_localhost_and_names_of_the_config(
    admin: httpx.AsyncClient, reload: Reloads, host: str
) -> None:
    assert (await admin.post("/admin/reload", headers=ASK | {"host": host})).status_code == 200
    assert reload.asked == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (ASK | {"content-type": "text/plain"}, 415),
        (ASK | {"content-type": "application/x-www-form-urlencoded"}, 415),
        (ASK | {"content-type": ""}, 415),
        (ASK | {"content-type": "application/jsonp"}, 415),
        (ASK | {"host": "evil.example:9090"}, 403),
        (ASK | {"host": "127.0.0.1.evil.example"}, 403),
        (ASK | {"host": "localhost.evil.example"}, 403),
        (ASK | {"host": "other.tollway.internal"}, 403),
        (ASK | {"host": "[::1"}, 403),
        (ASK | {"host": ""}, 403),
    ],
)
async def test_no_page_of_a_stranger_has_it_done(
    admin: httpx.AsyncClient, reload: Reloads, headers: dict[str, str], status: int
) -> None:
    answer = await admin.post("/admin/reload", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) in [
        (415, "invalid_request_error"),
        (403, "permission_error"),
    ]
    assert answer.status_code == status
    assert reload.asked == 0


async def test_to_look_at_it_changes_nothing(admin: httpx.AsyncClient, reload: Reloads) -> None:
    assert (await admin.get("/admin/reload")).status_code == 405
    assert reload.asked == 0
