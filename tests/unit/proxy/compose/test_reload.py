"""A reload, with a config that is played and somebody who takes it."""

import asyncio
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest

from proxy.compose.reload import ConfigSource, NotReloaded, Reload, Reloaded
from proxy.fatal import Fatal
from proxy.observe.metrics import Metrics
from proxy.settings import ConfigError, ConfigFault, Settings
from proxy.settings.loading import parse
from tests.exposition import total
from tests.issuer import wait_until

DEMO = files("proxy.settings").joinpath("demo.toml").read_text()
CHEAPER = DEMO.replace("prompt = 150_000", "prompt = 1")


class Taker:
    """Takes a config, unless a step is told to fail or to wait."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.settings: Settings | None = None
        self.fault: Exception | None = None
        self.rekeyed: list[str] = []
        self.held: asyncio.Event | None = None

    async def check(self, settings: Settings) -> list[str]:
        self.steps.append("check")
        if self.fault:
            raise self.fault
        self.settings = settings
        return self.rekeyed

    async def bar(self) -> None:
        self.steps.append("bar")
        if self.held:
            await self.held.wait()

    async def swap(self) -> None:
        self.steps.append("swap")


class File:
    """The config's file."""

    def __init__(self) -> None:
        self.text = DEMO

    def read(self) -> Settings:
        return parse(self.text, {})


@pytest.fixture
def file() -> File:
    return File()


@pytest.fixture
def taker() -> Taker:
    return Taker()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def reload(file: File, taker: Taker, metrics: Metrics) -> Reload:
    return Reload(ConfigSource(file.read(), file.read, asyncio.Event()), taker, metrics)


def told(outcome: Reloaded | NotReloaded) -> list[str]:
    return [str(each) for each in (outcome.changed if isinstance(outcome, Reloaded) else outcome.faults)]


def counted(metrics: Metrics) -> tuple[float, float]:
    text = metrics.render()[0].decode()
    ok, failed = (total(text, "tollway_config_reloads_total", result=result) for result in ("ok", "failed"))
    return ok, failed


async def test_what_is_different_is_put_in_force_step_by_step(
    reload: Reload, file: File, taker: Taker, metrics: Metrics
) -> None:
    file.text = CHEAPER
    assert told(await reload()) == ["prices.demo.prompt changed"]
    assert taker.steps == ["check", "bar", "swap"]
    assert taker.settings == file.read()
    assert told(await reload()) == [], "the next is compared with what holds"
    assert counted(metrics) == (2, 0)


async def test_a_key_that_stands_in_its_file_no_longer_is_told(reload: Reload, taker: Taker) -> None:
    taker.rekeyed = ["https://id.example"]
    assert told(await reload()) == ['auth.issuers."https://id.example".key_file changed']


async def test_what_needs_a_restart_is_left_and_told_each_time(reload: Reload, file: File, taker: Taker) -> None:
    file.text = f"{CHEAPER}\n[listen]\nport = 1"
    for changed in (["prices.demo.prompt changed"], []):
        outcome = await reload()
        assert isinstance(outcome, Reloaded)
        assert (told(outcome), [change.path for change in outcome.needs_restart]) == (changed, ["listen.port"])
    assert taker.settings is not None
    assert taker.settings.listen.port == 8080


async def test_another_secret_in_a_file_that_only_a_start_reads_needs_a_restart(
    tmp_path: Path, file: File, taker: Taker, metrics: Metrics
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("one")
    file.text = f'{DEMO}\n[redis]\nurl = "redis://elsewhere"\npassword_file = "{secret}"'
    reload = Reload(ConfigSource(file.read(), file.read, asyncio.Event()), taker, metrics)
    for content, waiting in (("one", []), ("other", ["redis.password_file"]), ("one", [])):
        secret.write_text(content)
        outcome = await reload()
        assert isinstance(outcome, Reloaded)
        assert [change.path for change in outcome.needs_restart] == waiting
    secret.unlink()
    assert isinstance(await reload(), Reloaded), "it is for the next start to miss it"


@pytest.mark.parametrize(
    ("fault", "faults"),
    [
        (ConfigError([ConfigFault("a", "no"), ConfigFault("b", "no")]), ["a: no", "b: no"]),
        (Fatal("there are too few"), ["there are too few"]),
    ],
)
async def test_a_fault_changes_nothing(
    reload: Reload, file: File, taker: Taker, metrics: Metrics, *, fault: Exception, faults: list[str]
) -> None:
    file.text, taker.fault = CHEAPER, fault
    assert told(await reload()) == faults
    assert (taker.steps, counted(metrics)) == (["check"], (0, 1))
    taker.fault = None
    assert told(await reload()) == ["prices.demo.prompt changed"]


async def test_a_file_with_faults_is_not_even_checked(
    reload: Reload, file: File, taker: Taker, caplog: pytest.LogCaptureFixture
) -> None:
    file.text = DEMO.replace("amount = 20,", "amount = -1,").replace('plans = ["free"]', 'plans = ["none"]')
    faults = told(await reload())
    assert [fault.partition(":")[0] for fault in faults] == ["plans.free.limits[0].amount", "tenants.globex.plans[0]"]
    assert taker.steps == []
    [line] = caplog.records
    assert (line.message, vars(line)["faults"]) == ("config_not_reloaded", faults)


async def test_one_at_a_time_and_who_waited_has_what_was_written_meanwhile(
    reload: Reload, file: File, taker: Taker
) -> None:
    file.text, taker.held = CHEAPER, asyncio.Event()
    first = asyncio.create_task(reload())
    await wait_until(lambda: taker.steps == ["check", "bar"])
    second = asyncio.create_task(reload())
    file.text = CHEAPER.replace("cached = 75_000", "cached = 1")
    taker.held.set()
    assert [told(outcome) for outcome in await asyncio.gather(first, second)] == [
        ["prices.demo.prompt changed"],
        ["prices.demo.cached changed"],
    ]
    assert taker.steps == ["check", "bar", "swap"] * 2


async def test_once_begun_it_is_carried_out_whoever_is_cancelled(reload: Reload, file: File, taker: Taker) -> None:
    file.text, taker.held = CHEAPER, asyncio.Event()
    asking = asyncio.create_task(reload())
    await wait_until(lambda: taker.steps == ["check", "bar"])
    asking.cancel()
    await asyncio.sleep(0)
    taker.held.set()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert taker.steps == ["check", "bar", "swap"]
    assert told(await reload()) == []


def done(taker: Taker, steps: int) -> bool:
    return len(taker.steps) == steps


async def test_it_follows_whenever_the_source_is_asked(file: File, taker: Taker, metrics: Metrics) -> None:
    asked = asyncio.Event()
    following = asyncio.create_task(
        Reload(ConfigSource(file.read(), file.read, asked), taker, metrics).whenever_asked()
    )
    for steps in (3, 6):
        asked.set()
        await wait_until(partial(done, taker, steps))
    assert taker.steps == ["check", "bar", "swap"] * 2
    following.cancel()


async def test_when_the_config_was_loaded_is_shown_from_the_start(reload: Reload, metrics: Metrics) -> None:
    before = total(metrics.render()[0].decode(), "tollway_config_loaded_timestamp_seconds")
    assert before > 1.7e9
    await asyncio.sleep(0.01)
    await reload()
    assert total(metrics.render()[0].decode(), "tollway_config_loaded_timestamp_seconds") > before
