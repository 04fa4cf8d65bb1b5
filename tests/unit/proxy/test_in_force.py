"""A request goes by the config that held at its beginning, wherever in it another is put in that one's place."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from engine.protocols.usage import Usage
from policies.quota import Limit
from proxy.billing.charging import charge_for
from proxy.catalog import Catalog
from proxy.in_force import Config
from proxy.settings.loading import parse
from tests.unit.proxy.gateway import CONFIG, STREAM_BODY, Gateway, gateway, until
from tests.unit.proxy.played_client import PlayedClient
from tests.unit.proxy.played_upstream import replays

NEXT = (
    CONFIG.replace('version = "7"', 'version = "8"')
    .replace("completion = 2_000_000", "completion = 3_000_000")
    .replace("amount = 10_000,", "amount = 20_000,")
    .replace('plans = ["pro", "free"]', 'plans = ["free", "pro"]')
    .replace("body_bytes_max = 100_000", "body_bytes_max = 1024\nattempts_max = 1")
)
"""Another price, other limits, another default plan, a bound that the body does not hold and no second try."""

BODY = STREAM_BODY | {
    "messages": [{"role": "user", "content": "x" * 1_500}],
    "stream_options": {"include_usage": True},
}


def swap(gw: Gateway, folder: Path, config: str = NEXT) -> Config:
    """Put another config in force."""
    settings = parse(config, {}, folder=folder)
    catalog = Catalog.of(settings)
    before = gw.exchange.in_force.now
    gw.exchange.in_force.now = now = Config.of(settings, catalog, before.verifier.after(settings, catalog))
    return now


class Witness:
    """Which limits each step of a reservation was given."""

    def __init__(self, gw: Gateway) -> None:
        self.limits: list[tuple[Limit, ...]] = []
        reserve, settle = gw.store.reserve, gw.store.settle

        async def reserved(draft: Any, limits: tuple[Limit, ...], *args: Any, **more: Any) -> Any:
            self.limits.append(limits)
            return await reserve(draft, limits, *args, **more)

        async def settled(record: Any, limits: tuple[Limit, ...], **more: Any) -> Any:
            self.limits.append(limits)
            return await settle(record, limits, **more)

        gw.store.reserve, gw.store.settle = reserved, settled  # type: ignore[method-assign]


def client(gw: Gateway) -> PlayedClient:
    """Return a client whose body takes its time."""
    body = json.dumps(BODY).encode()
    return gw.client(parts=[body[:20], body[20:60], body[60:]])


@pytest.mark.parametrize("turns", range(40))
async def test_an_exchange_ends_by_the_config_by_which_it_began(tmp_path: Path, turns: int) -> None:
    failing = replays("122-chat-stream-continuous", until=0)
    gw = gateway(tmp_path, a=[failing], b=[replays("122-chat-stream-continuous")])
    before, witness, asking = gw.exchange.in_force.now, Witness(gw), client(gw)
    serving = asyncio.create_task(gw.serve(asking))
    for _ in range(turns + 1):
        await asyncio.sleep(0)
    swap(gw, tmp_path)
    await serving
    assert asking.status == 200, asking.answer
    assert asking.complete
    [record] = gw.store.ledger
    model = before.catalog.model("demo")
    assert model is not None
    assert (record.plan, record.attempts, record.price_version) == ("pro", 2, "7")
    usage = next(json.loads(event)["usage"] for event in reversed(asking.events[:-1]) if b'"usage"' in event)
    assert record.completion_tokens == usage["completion_tokens"]
    used = Usage(record.prompt_tokens, record.cached_tokens, record.completion_tokens)
    charge = charge_for(before.catalog.price(model), used)
    assert (record.charge_picos, record.price_version) == (charge.charge_picos, charge.price_version)
    plan = before.catalog.plan("acme")
    assert plan is not None
    assert all(limits is plan.limits for limits in witness.limits)
    assert len(witness.limits) == 2
    gw.assert_nothing_is_held()


async def test_the_next_request_goes_by_the_next_config(tmp_path: Path) -> None:
    gw = gateway(tmp_path, a=[], b=[])
    swap(gw, tmp_path)
    refused = await gw.ask(BODY)
    assert (refused.status, refused.json["error"]["code"]) == (413, "request_too_large")


async def test_one_of_a_model_that_is_gone_finds_no_replica_any_more(tmp_path: Path) -> None:
    gw = gateway(tmp_path, a=[], b=[])
    asking = client(gw)
    serving = asyncio.create_task(gw.serve(asking))
    await asyncio.sleep(0)
    del gw.pools["demo"]
    await serving
    assert (asking.status, asking.json["error"]["code"]) == (503, "no_replica")
    await until(lambda: not gw.store.pending)
