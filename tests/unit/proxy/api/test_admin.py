import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.proxy.gateway import Gateway


async def test_a_scrape_is_prometheus_text(admin: httpx.AsyncClient, gw: Gateway) -> None:
    gw.metrics.turned_away("acme", "demo", "interactive", "queue_full")
    answer = await admin.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "tollway_requests" in {family.name for family in text_string_to_metric_families(answer.text)}


async def test_replicas_are_shown_as_they_stand(admin: httpx.AsyncClient, gw: Gateway) -> None:
    gw.pools["demo"]["b"].healthy = False
    with gw.pools["demo"]["a"].lease(2, 100, expected_end_us=7):
        shown = (await admin.get("/admin/replicas")).json()["data"]
    assert [(line["model"], line["name"], line["healthy"]) for line in shown] == [
        ("demo", "a", True),
        ("demo", "b", False),
        ("secret", "s", True),
    ]
    assert (shown[0]["url"], shown[0]["inflight_sequences"], shown[0]["inflight_tokens"]) == ("http://a", 2, 100)


async def test_those_that_leave_are_shown_behind_the_others_until_they_have_left(
    admin: httpx.AsyncClient, gw: Gateway
) -> None:
    pool = gw.pools["demo"]
    pool.leaving.add(pool["a"])
    pool.arrange([pool["b"]])
    shown = (await admin.get("/admin/replicas")).json()["data"]
    assert [(line["name"], line["leaving"]) for line in shown] == [("b", False), ("a", True), ("s", False)]
