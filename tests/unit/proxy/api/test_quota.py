from pathlib import Path

import httpx
import pytest

from policies.quota import Subject
from proxy.api.reports import Reports
from proxy.api.site import public_site
from proxy.edge.edge import Edge
from tests.unit.proxy.api.conftest import Ping
from tests.unit.proxy.gateway import CHAT_BODY, CONFIG, Gateway, gateway
from tests.unit.proxy.memory_reservations import NOW_US
from tests.unit.proxy.memory_rows import MemoryRows


async def test_a_caller_sees_its_own_limits_and_prices(
    public: httpx.AsyncClient, gw: Gateway, bearer: dict[str, str]
) -> None:
    await public.post("/v1/chat/completions", json=CHAT_BODY, headers=bearer)
    shown = (await public.get("/v1/quota", headers=bearer)).json()
    assert (shown["tenant"], shown["user"], shown["plan"], shown["lane"]) == ("acme", "ada", "pro", "interactive")
    assert [(line["name"], line["limit"], line["used"], line["remaining"]) for line in shown["limits"]] == [
        ("user-tokens-day", 10_000, 23, 9_977),
        ("user-requests-day", 100, 1, 99),
        ("user-concurrent", 3, 0, 3),
    ]
    assert shown["prices"] == [
        {
            "model": "demo",
            "version": "7",
            "currency": "EUR",
            "prompt": 1_000_000,
            "cached": 500_000,
            "completion": 2_000_000,
        }
    ]
    other = {"authorization": f"Bearer {gw.token(user='bob')}"}
    lines = (await public.get("/v1/quota", headers=other)).json()["limits"]
    assert [line["used"] for line in lines] == [0, 0, 0]


async def test_what_was_granted_is_left_on_top_of_the_limit(
    public: httpx.AsyncClient, gw: Gateway, bearer: dict[str, str]
) -> None:
    await public.post("/v1/chat/completions", json=CHAT_BODY, headers=bearer)
    [limit, *_] = gw.statuses().values()
    gw.store.book.grant(limit.limit, Subject(tenant="acme", user="ada", model=""), 1_000, NOW_US)
    line = (await public.get("/v1/quota", headers=bearer)).json()["limits"][0]
    assert (line["limit"], line["used"], line["remaining"]) == (10_000, 0, 10_977)


async def test_a_limit_of_a_model_is_told_for_each(tmp_path: Path, edge: Edge) -> None:
    limit = '{ scope = "model", unit = "tokens", amount = 7, per = "day" },'
    config = CONFIG.replace('models = ["demo"]\nlimits = [', f"limits = [{limit}", 1)
    gw = gateway(tmp_path, config=config)
    reports = Reports(MemoryRows().reader)
    site = public_site(gw.exchange, gw.pools, gw.store, Ping(), edge=edge, reports=reports)  # type: ignore[arg-type]
    bearer = {"authorization": f"Bearer {gw.token()}"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(site), base_url="http://g") as client:  # type: ignore[arg-type]
        every = (await client.get("/v1/quota", headers=bearer)).json()["limits"]
        one = (await client.get("/v1/quota?model=gpt-4o-mini", headers=bearer)).json()["limits"]
    assert [line["model"] for line in every if line["scope"] == "model"] == ["demo", "secret"]
    assert [line["model"] for line in one if line["scope"] == "model"] == ["demo"]


@pytest.mark.parametrize("name", ["nobody", "secret"])
async def test_a_model_of_others_does_not_exist(public: httpx.AsyncClient, bearer: dict[str, str], name: str) -> None:
    answer = await public.get("/v1/quota", params={"model": name}, headers=bearer)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_without_a_store_it_says_so(public: httpx.AsyncClient, gw: Gateway, bearer: dict[str, str]) -> None:
    gw.store.away = {"statuses"}
    answer = await public.get("/v1/quota", headers=bearer)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
