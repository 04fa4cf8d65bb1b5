import time
from pathlib import Path

import pytest

from proxy.catalog import Catalog
from proxy.errors import InvalidToken
from proxy.identity.development import NoDevelopmentIssuer, mint
from proxy.identity.principal import Principal
from proxy.identity.tokens import Verifier
from proxy.settings import ConfigError
from proxy.settings.loading import parse


async def test_the_gateway_believes_what_was_minted(tmp_path: Path, minimal_config: str) -> None:
    settings = parse(minimal_config, {}, folder=tmp_path)
    verifier = Verifier.of(settings, Catalog.of(settings))
    assert await verifier.verify(mint(settings, tenant="acme", user="ada")) == Principal("acme", "ada", "pro")
    token = mint(settings, tenant="acme", user="ada", plan="free", scopes=["usage:read", "admin"])
    assert await verifier.verify(token) == Principal("acme", "ada", "free", frozenset({"admin", "usage:read"}))


async def test_claims_go_where_the_config_looks_for_them(tmp_path: Path, minimal_config: str) -> None:
    pointers = 'claims = { tenant = "/realm/tenant", user = "/realm/user", scopes = "/https:~1~1x~1scope" }'
    settings = parse(
        minimal_config.replace("development = true", f"development = true, {pointers}"), {}, folder=tmp_path
    )
    token = mint(settings, tenant="acme", user="ada", scopes=["a"])
    assert (await Verifier.of(settings, Catalog.of(settings)).verify(token)).scopes == {"a"}


async def test_a_token_lasts_for_its_time(tmp_path: Path, minimal_config: str) -> None:
    settings = parse(f"{minimal_config}\nauth.leeway_s = 0", {}, folder=tmp_path)
    verifier = Verifier.of(settings, Catalog.of(settings))
    now_s = int(time.time())
    assert (await verifier.verify(mint(settings, tenant="acme", user="ada", ttl_s=100, now_s=now_s - 50))).user == "ada"
    with pytest.raises(InvalidToken, match="expired"):
        await verifier.verify(mint(settings, tenant="acme", user="ada", ttl_s=100, now_s=now_s - 150))


async def test_another_gateways_token_is_worth_nothing(tmp_path: Path, minimal_config: str) -> None:
    here = parse(minimal_config, {}, folder=tmp_path / "here")
    there = parse(minimal_config, {}, folder=tmp_path / "there")
    with pytest.raises(InvalidToken, match="signature"):
        await Verifier.of(here, Catalog.of(here)).verify(mint(there, tenant="acme", user="ada"))


def test_without_a_development_issuer_nothing_is_minted(tmp_path: Path, minimal_config: str) -> None:
    settings = parse(minimal_config.replace("development = true", 'key_file = "k"'), {}, folder=tmp_path)
    with pytest.raises(NoDevelopmentIssuer, match="no development issuer"):
        mint(settings, tenant="acme", user="ada")


def test_an_unusable_key_names_its_field(tmp_path: Path, minimal_config: str) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(ConfigError, match=r"auth.issuers\[0\].key_file: .* cannot be"):
        mint(parse(minimal_config, {}, folder=tmp_path), tenant="acme", user="ada")
