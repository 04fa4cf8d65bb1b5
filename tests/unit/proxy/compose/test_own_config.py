"""How a gateway's own process takes a config: what a check leaves alone, what ends first, what holds then."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.fleet.fleet import Fleet
from proxy.catalog import Catalog
from proxy.compose import own_config
from proxy.compose.fleet import Places, placements
from proxy.compose.own_config import OwnConfig
from proxy.errors import InvalidToken, LedgerUnavailable
from proxy.identity.development import mint
from proxy.identity.tokens import Verifier
from proxy.in_force import Config, InForce
from proxy.settings import ConfigError, Settings
from proxy.settings.loading import parse
from tests.unit.engine.fleet.test_fleet import Servers, Told
from tests.unit.proxy.gateway import CONFIG


class Launched:
    """Launches nothing, and remembers what it was told to begin."""

    def __init__(self) -> None:
        self.begun: list[Any] = []

    def places(self, settings: Settings) -> Places:
        return Places({each.name: each.url or "" for model in settings.models for each in model.replicas}, ())

    def begin(self, new: Any) -> None:
        self.begun.append(new)


class Registry:
    """An incarnation that enters tenants in no Redis."""

    def __init__(self) -> None:
        self.served: list[str] = []
        self.away = False
        self.held: asyncio.Event | None = None

    async def serve(self, tenant: str) -> None:
        if self.away:
            raise LedgerUnavailable
        if self.held:
            await self.held.wait()
        self.served.append(tenant)


@dataclass
class Own:
    """One process's config, and everything that it is made of."""

    folder: Path
    config: OwnConfig
    fleet: Fleet
    registry: Registry
    launched: Launched
    settings: Settings

    def parsed(self, *replaced: tuple[str, str]) -> Settings:
        text = CONFIG
        for old, new in replaced:
            assert old in text
            text = text.replace(old, new)
        return parse(text, {}, folder=self.folder)

    async def take(self, settings: Settings) -> None:
        await self.config.check(settings)
        await self.config.bar()
        await self.config.swap()

    @property
    def now(self) -> Config:
        return self.config.in_force.now

    async def user(self, tenant: str, **more: Any) -> str:
        return (await self.now.verifier.verify(mint(self.settings, tenant=tenant, user="ada", **more))).plan

    def replicas(self) -> list[str]:
        return [replica.name for pool in self.fleet.pools.values() for replica in pool]


@asynccontextmanager
async def made(folder: Path) -> AsyncIterator[Own]:
    settings = parse(CONFIG, {}, folder=folder)
    catalog = Catalog.of(settings)
    launched, registry = Launched(), Registry()
    async with Fleet(Servers(), Told()) as fleet:
        fleet.arrange(await fleet.look(placements(settings, launched.places(settings).urls)))
        in_force = InForce(Config.of(settings, catalog, Verifier.of(settings, catalog)))
        config = OwnConfig(in_force, fleet, launched, registry)  # type: ignore[arg-type]
        yield Own(folder, config, fleet, registry, launched, settings)


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Own]:
    async with made(tmp_path) as yielded:
        yield yielded


WITHOUT_GLOBEX = ('globex.plans = ["pro"]', 'hooli.plans = ["pro"]')
OTHER_PLAN = ('acme.plans = ["pro", "free"]', 'acme.plans = ["free"]')
OTHER_REPLICA = ('{ name = "b", url = "http://b", sequences = 4 }', '{ name = "c", url = "http://c", sequences = 4 }')


async def test_a_config_holds_once_it_is_swapped_in(own: Own) -> None:
    settings = own.parsed(WITHOUT_GLOBEX, OTHER_PLAN, OTHER_REPLICA)
    before = own.now
    assert await own.config.check(settings) == []
    assert own.now is before
    assert own.replicas() == ["a", "b", "s"]
    await own.config.bar()
    await own.config.swap()
    assert own.now.settings is settings
    assert (await own.user("acme"), await own.user("hooli")) == ("free", "pro")
    assert own.replicas() == ["a", "c", "s"]
    assert own.registry.served == ["hooli"], "the others are entered already"
    assert own.launched.begun == [()]


async def test_what_is_taken_back_ends_before_anything_else_of_the_config(own: Own) -> None:
    assert (await own.user("acme"), await own.user("globex")) == ("pro", "pro")
    await own.config.check(own.parsed(WITHOUT_GLOBEX, OTHER_PLAN, OTHER_REPLICA))
    await own.config.bar()
    with pytest.raises(InvalidToken, match="tenant is not known"):
        await own.user("globex")
    with pytest.raises(InvalidToken, match="tenant is not known"):
        await own.user("hooli")
    assert await own.user("acme") == "pro", "the plan is still the one before"
    assert own.replicas() == ["a", "b", "s"]


async def test_new_tenants_and_replicas_that_do_not_answer_keep_nobody_waiting(
    own: Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_config, "ENROL_S_MAX", 0.01)
    own.registry.held = asyncio.Event()
    await own.take(own.parsed(WITHOUT_GLOBEX))
    assert await own.user("hooli") == "pro"
    own.registry.away = True
    await own.take(own.parsed(('globex.plans = ["pro"]', 'initech.plans = ["pro"]')))
    assert await own.user("initech") == "pro"
    assert own.registry.served == []


async def test_a_check_that_finds_something_leaves_all_as_it_was(own: Own) -> None:
    await own.config.check(own.parsed(OTHER_PLAN))
    wrong = '\n[[auth.issuers]]\nissuer = "two"\nkey_file = "nowhere"\nalgorithms = ["HS256"]\n\n[plans.pro]'
    settings = own.parsed(("\n[plans.pro]", wrong), WITHOUT_GLOBEX)
    before = own.now
    with pytest.raises(ConfigError, match="nowhere"):
        await own.config.check(settings)
    await own.config.bar()
    await own.config.swap()
    assert own.now is before


KEYED = ('{ name = "a", url = "http://a",', '{ name = "a", url = "http://a", api_key_file = "engine-key",')


async def test_keys_of_engines_are_read_again_and_what_runs_on_them_stays(own: Own) -> None:
    (replica,) = (each for each in own.fleet.pools["demo"] if each.name == "a")
    for key in ("one", "two"):
        (own.folder / "engine-key").write_text(key)
        await own.take(own.parsed(KEYED))
        assert own.fleet.pools["demo"]["a"] is replica
        assert replica.credentials.fields == f"authorization: Bearer {key}\r\n".encode()
    kept = replica.credentials
    await own.take(own.parsed(KEYED))
    assert replica.credentials is kept, "its connections serve on"


async def test_a_key_of_an_engine_that_is_not_there_is_found_before_anything_ends(own: Own) -> None:
    before = own.now
    with pytest.raises(ConfigError, match=r"replicas\[0\].api_key_file: .*engine-key cannot be read"):
        await own.config.check(own.parsed(KEYED, WITHOUT_GLOBEX))
    await own.config.bar()
    assert own.now is before


async def test_a_step_without_a_check_has_nothing_to_do(own: Own) -> None:
    before = own.now
    await own.config.bar()
    await own.config.swap()
    assert own.now is before
    await own.take(own.parsed(WITHOUT_GLOBEX))
    after = own.now
    await own.config.swap()
    assert own.now is after


async def test_who_follows_is_told_of_each_config(own: Own) -> None:
    told: list[Iterable[str]] = []
    own.config.in_force.follow(lambda config: told.append(sorted(config.catalog.tenants)))
    await own.take(own.parsed(WITHOUT_GLOBEX))
    assert told == [["acme", "globex"], ["acme"], ["acme", "hooli"]]
