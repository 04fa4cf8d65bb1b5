from typing import Any

import pytest
from litestar import Request

from proxy.api.callers import Callers
from proxy.errors import InvalidToken, ScopeMissing
from tests.unit.proxy.gateway import Gateway


def request(headers: dict[str, str]) -> Request[Any, Any, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})  # type: ignore[arg-type]


async def test_a_caller_has_the_plan_that_its_token_names(gw: Gateway) -> None:
    callers = Callers(gw.exchange.in_force, gw.exchange.meter.token_refused)
    for plan, name in [(None, "pro"), ("free", "free")]:
        asked = request({"authorization": f"Bearer {gw.token(plan=plan)}"})
        assert ((await callers.principal(asked)).user, (await callers.caller(asked)).plan.name) == ("ada", name)


async def test_nobody_has_no_plan(gw: Gateway) -> None:
    with pytest.raises(InvalidToken):
        await Callers(gw.exchange.in_force, gw.exchange.meter.token_refused).caller(request({}))
    assert gw.metric("tollway_refusals_total", limit="", reason="token_missing") == 1


async def test_a_scope_that_is_required_is_one_of_the_callers(gw: Gateway) -> None:
    callers = Callers(gw.exchange.in_force, gw.exchange.meter.token_refused)
    asked = request({"authorization": f"Bearer {gw.token(scopes=['usage:read', 'usage:self'])}"})
    assert (await callers.require(asked, "usage:read")).user == "ada"
    assert (await callers.require(asked, "usage:all", "usage:self")).scopes == {"usage:read", "usage:self"}
    with pytest.raises(ScopeMissing) as missing:
        await callers.require(asked, "usage:all")
    assert missing.value.scopes == "usage:all"


async def test_nobody_and_a_scope_that_the_config_does_not_list_have_none(gw: Gateway) -> None:
    callers = Callers(gw.exchange.in_force, gw.exchange.meter.token_refused)
    with pytest.raises(InvalidToken):
        await callers.require(request({}), "usage:read")
    with pytest.raises(ScopeMissing):
        await callers.require(request({"authorization": f"Bearer {gw.token(scopes=['admin'])}"}), "admin")
