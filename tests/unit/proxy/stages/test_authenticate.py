from pathlib import Path

import pytest

from proxy.errors import InvalidToken
from proxy.identity.principal import Principal
from proxy.stages.authenticate import authenticate, bearer
from tests.unit.proxy.gateway import Gateway, gateway
from tests.unit.proxy.played_client import PlayedClient


@pytest.fixture
def gw(tmp_path: Path) -> Gateway:
    return gateway(tmp_path)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
async def test_a_bearer_token_tells_who_is_asking(gw: Gateway, scheme: str) -> None:
    client = PlayedClient(headers={"authorization": scheme + gw.token(user="ada", plan="free")})
    assert await authenticate(gw.exchange.in_force.now.verifier, client.downstream()) == Principal(
        "acme", "ada", "free"
    )


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YTpi",
        "{token}",
        "Token {token}",
        "Bearer x{token}",
        "Bearer\t{token}",
        "Bearer:{token}",
        "Bearer,{token}",
        "Bearer {token}, Bearer {token}",
        "Bearer {token},{token}",
        "Bearer {token} {token}",
        'Bearer "{token}"',
        'Bearer token="{token}"',
        "Basic YTpi, Bearer {token}",
        "Bearer \xa0{token}",
        "Bearer {token}\x0b",
        "Bearer Bearer {token}",
    ],
)
async def test_anything_else_is_nobody(gw: Gateway, header: str) -> None:
    token = gw.token()
    with pytest.raises(InvalidToken) as caught:
        await bearer(gw.exchange.in_force.now.verifier, [header.format(token=token)], "")
    assert token not in caught.value.message


async def test_two_headers_are_nobody_even_when_both_are_good(gw: Gateway) -> None:
    good = f"Bearer {gw.token()}"
    for second in (good, "", "Basic YTpi"):
        with pytest.raises(InvalidToken, match="More than one"):
            await bearer(gw.exchange.in_force.now.verifier, [good, second], "")


async def test_no_header_is_nobody_and_no_other_header_counts(gw: Gateway) -> None:
    client = PlayedClient(headers={"x-api-key": gw.token(), "x-tenant": "acme", "proxy-authorization": gw.token()})
    with pytest.raises(InvalidToken):
        await authenticate(gw.exchange.in_force.now.verifier, client.downstream())
