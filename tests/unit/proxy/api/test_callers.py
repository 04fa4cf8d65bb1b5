from typing import Any

import pytest
from litestar import Request

from proxy.api.callers import Callers
from proxy.errors import InvalidToken
from tests.unit.proxy.gateway import Gateway


def request(headers: dict[str, str]) -> Request[Any, Any, Any]:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "headers": raw})  # type: ignore[arg-type]


async def test_a_caller_has_the_plan_that_its_token_names(gw: Gateway) -> None:
    callers = Callers(gw.exchange.authenticate, gw.catalog)
    for plan, name in [(None, "pro"), ("free", "free")]:
        asked = request({"authorization": f"Bearer {gw.token(plan=plan)}"})
        assert ((await callers.principal(asked)).user, (await callers.plan(asked)).name) == ("ada", name)


async def test_nobody_has_no_plan(gw: Gateway) -> None:
    with pytest.raises(InvalidToken):
        await Callers(gw.exchange.authenticate, gw.catalog).plan(request({}))
