"""Tokens from one config to the next: whose are believed unseen, whose are verified anew, whose end."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import jwt
import pytest

from proxy.catalog import Catalog
from proxy.errors import InvalidToken
from proxy.identity import key_ring
from proxy.identity.key_ring import KeyRing
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier
from proxy.settings import ConfigError, Settings
from proxy.settings.loading import parse
from tests.issuer import JWKS, Provider, Signer, provider, wait_until

CONFIG = """
[auth]
leeway_s = LEEWAY

ISSUERS

[plans]
pro = {}
free = {}

[tenants]
TENANTS

[[models]]
name = "m"
context_tokens = 1
replicas = [{ name = "r", url = "http://r" }]
"""
ONE, OTHER = b"1" * 32, b"2" * 32
HMAC = 'algorithms = ["HS256"]'
TENANTS = 'acme.plans = ["pro", "free"]\nglobex.plans = ["free"]'


def table(issuer: str, key: str, more: str = HMAC) -> str:
    return f'[[auth.issuers]]\nissuer = "{issuer}"\n{key}\n{more}\n'


ISSUERS = table("one", 'key_file = "one"') + table("other", 'key_file = "other"')

Read = Callable[..., Settings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    (tmp_path / "one").write_bytes(ONE)
    (tmp_path / "other").write_bytes(OTHER)

    def parsed(issuers: str = ISSUERS, tenants: str = TENANTS, leeway_s: int = 5) -> Settings:
        text = CONFIG.replace("ISSUERS", issuers).replace("TENANTS", tenants).replace("LEEWAY", str(leeway_s))
        return parse(text, {}, folder=tmp_path)

    return parsed


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the tokens whose signature was checked."""
    seen, decode = list[str](), jwt.decode

    def noted(token: str, *args: Any, **options: Any) -> Any:
        seen.append(token)
        return decode(token, *args, **options)

    monkeypatch.setattr(jwt, "decode", noted)
    return seen


def sign(issuer: str = "one", key: bytes = ONE, tenant: str = "acme", **more: Any) -> str:
    said = {"iss": issuer, "aud": "tollway", "exp": 2**33, "tenant": tenant, "sub": "ada", **more}
    return jwt.encode(said, key, "HS256")


def first(settings: Settings) -> Verifier:
    return Verifier.of(settings, Catalog.of(settings))


def after(verifier: Verifier, settings: Settings) -> Verifier:
    """Return the verifier of the next config, which has taken over."""
    made = verifier.after(settings, Catalog.of(settings))
    made.take_over()
    return made


async def refusal(verifier: Verifier, token: str) -> str:
    with pytest.raises(InvalidToken) as caught:
        await verifier.verify(token)
    return caught.value.message


async def test_what_has_not_changed_is_not_verified_again(read: Read, decoded: list[str]) -> None:
    one, token = first(read()), sign()
    await one.verify(token)
    two = after(one, read(tenants=TENANTS + '\ninitech.plans = ["pro"]'))
    assert await two.verify(token) == Principal("acme", "ada", "pro")
    assert two.known(token) == Principal("acme", "ada", "pro")
    assert decoded == [token]


async def test_a_known_token_has_the_plan_that_the_new_config_gives_it(read: Read, decoded: list[str]) -> None:
    one, token, named = first(read()), sign(), sign(plan="free")
    for each in (token, named):
        await one.verify(each)
    two = after(one, read(tenants='acme.plans = ["free"]'))
    assert two.known(token) == two.known(named) == Principal("acme", "ada", "free")
    three = after(two, read(tenants='acme.plans = ["pro"]'))
    assert three.known(token) == Principal("acme", "ada", "pro")
    with pytest.raises(InvalidToken, match="a plan that its tenant does not have"):
        three.known(named)
    assert len(decoded) == 2
    assert one.known(token) == Principal("acme", "ada", "pro"), "who began by the first goes on by it"


async def test_a_removed_tenants_tokens_end(read: Read) -> None:
    one, token, others = first(read()), sign(tenant="globex"), sign()
    await one.verify(token)
    two = after(one, read(tenants='acme.plans = ["pro"]'))
    assert await refusal(two, token) == "The token's tenant is not known here."
    assert await two.verify(others)
    three = after(two, read())
    assert await three.verify(token), "a refusal is the config's that made it"


async def test_a_removed_issuers_tokens_end(read: Read) -> None:
    one, gone, stays = first(read()), sign("other", OTHER), sign()
    for token in (gone, stays):
        await one.verify(token)
    two = after(one, read(table("one", 'key_file = "one"')))
    assert await refusal(two, gone) == "The token's issuer is not known here."
    assert two.known(stays)


async def test_a_replaced_keys_tokens_end_and_the_new_ones_are_good(
    read: Read, tmp_path: Path, decoded: list[str]
) -> None:
    one, old, stays = first(read()), sign(), sign("other", OTHER)
    for token in (old, stays):
        await one.verify(token)
    (tmp_path / "one").write_bytes(b"3" * 32)
    two = after(one, read())
    assert await refusal(two, old) == "The token's signature is wrong."
    assert await two.verify(sign(key=b"3" * 32))
    decoded.clear()
    assert two.known(stays)
    assert decoded == []


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('audience = "elsewhere"', "The token was issued for another audience."),
        ('claims = { tenant = "/org" }', "The token names no tenant."),
    ],
)
async def test_tokens_of_an_issuer_that_was_changed_are_verified_anew(read: Read, more: str, told: str) -> None:
    one, token = first(read()), sign()
    await one.verify(token)
    two = after(one, read(table("one", 'key_file = "one"', f"{HMAC}\n{more}")))
    assert await refusal(two, token) == told


async def test_with_another_leeway_every_token_is_verified_anew(read: Read, decoded: list[str]) -> None:
    one, token = first(read()), sign()
    await one.verify(token)
    assert await after(one, read(leeway_s=6)).verify(token)
    assert decoded == [token, token]


async def test_some_of_the_issuers_may_be_left_out_before_the_rest_of_a_config_holds(read: Read) -> None:
    settings = read()
    one, token = first(settings), sign("other", OTHER)
    await one.verify(token)
    barred = one.after(settings, Catalog.of(settings)).only({"one"}, Catalog.of(settings))
    assert barred.issuers == {"one"}
    assert await refusal(barred, token) == "The token's issuer is not known here."
    assert await barred.verify(sign())


async def test_every_key_that_cannot_be_used_is_told_and_nothing_is_changed(read: Read, tmp_path: Path) -> None:
    one, token = first(read()), sign()
    await one.verify(token)
    (tmp_path / "one").unlink()
    (tmp_path / "other").write_bytes(b"short")
    with pytest.raises(ConfigError) as caught:
        one.after(settings := read(), Catalog.of(settings))
    assert [fault.path for fault in caught.value.faults] == ["auth.issuers[0].key_file", "auth.issuers[1].key_file"]
    assert one.known(token)


@pytest.fixture
async def idp() -> AsyncIterator[Provider]:
    with provider() as running:
        yield running


SIGNER = Signer.of("ES256", "key")


def published(idp: Provider, more: str = "", path: str = JWKS) -> str:
    return table(idp.url, f'jwks_url = "{idp.url}{path}"', f'algorithms = ["ES256"]\n{more}')


async def test_published_keys_are_kept_while_their_issuer_stays_the_same(read: Read, idp: Provider) -> None:
    idp.publish(SIGNER.jwk())
    async with first(read(published(idp))) as one:
        token = SIGNER.sign(idp.url)
        await one.verify(token)
        two = after(one, read(published(idp) + table("one", 'key_file = "one"')))
        assert two.known(token)
        assert await two.verify(SIGNER.sign(idp.url, sub="bob"))
    assert idp.asked[JWKS] == 1


async def test_an_issuer_that_was_changed_begins_with_the_keys_at_hand(
    read: Read, idp: Provider, decoded: list[str]
) -> None:
    idp.publish(SIGNER.jwk())
    async with first(read(published(idp))) as one:
        token = SIGNER.sign(idp.url)
        await one.verify(token)
        idp.fail()
        two = after(one, read(published(idp, "refresh_s = 10.0")))
        assert await two.verify(token), "nobody waits for the next fetch"
        assert decoded == [token, token]
        await wait_until(lambda: idp.asked[JWKS] == 2)


async def test_keys_that_were_published_elsewhere_are_not_believed(read: Read, idp: Provider) -> None:
    idp.publish(SIGNER.jwk())
    other = Signer.of("ES256", "key")
    async with first(read(published(idp))) as one:
        token = SIGNER.sign(idp.url)
        await one.verify(token)
        idp.publish(other.jwk())
        idp.answers["/moved"] = idp.answers[JWKS]
        two = after(one, read(published(idp, path="/moved")))
        assert await refusal(two, token) == "The token's signature is wrong."
        assert await two.verify(other.sign(idp.url))


async def test_what_an_issuer_publishes_is_fetched_no_longer_once_it_is_gone(
    read: Read, idp: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ring, "WAIT_S_MAX", 0.01)
    idp.publish(SIGNER.jwk())
    async with first(read(table("one", 'key_file = "one"'))) as one:
        two = after(one, read(published(idp)))
        assert await two.verify(SIGNER.sign(idp.url))
        three = after(two, read(table("one", 'key_file = "one"')))
        assert await refusal(three, SIGNER.sign(idp.url)) == "The token's issuer is not known here."
        await wait_until(lambda: not [task for task in asyncio.all_tasks() if task.get_name() == "tollway-keys"])


async def test_an_issuer_may_go_while_its_keys_are_still_fetched_and_the_block_be_left(
    read: Read, idp: Provider
) -> None:
    idp.publish(SIGNER.jwk())
    async with KeyRing() as ring:
        ring.hold(ring.sources(read(published(idp))))
        ring.hold(ring.sources(read()))
    assert asyncio.all_tasks() == {asyncio.current_task()}
