from pathlib import Path

from policies.quota import Limit
from proxy.settings import Settings, load
from tests.bench import growth
from tests.bench.candidates.candidate import Place
from tests.bench.candidates.tollway import overlay
from tests.bench.growth import LIMITS

REPLICAS = ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]


def loaded(config: Path, folder: Path) -> Settings:
    return load(config, overlay(Place(folder, 8000, 9000, REPLICAS)))


def test_the_most_limits_are_one_of_each_name() -> None:
    assert len({Limit(scope, unit, 1, per).name for scope, unit, per in LIMITS}) == len(LIMITS) == 44


def test_a_gateway_can_be_run_with_as_many(tmp_path: Path) -> None:
    settings = loaded(growth._with_limits(tmp_path, LIMITS), tmp_path)
    assert [(line.scope, line.unit, line.per) for line in settings.plans["ample"].limits] == LIMITS
    assert settings.tenants["bench"].plans == ("ample",)


def test_a_gateway_can_be_run_that_lets_all_in_from_one_address(tmp_path: Path) -> None:
    listen = loaded(growth._open_to_all(tmp_path, 10_000), tmp_path).listen
    assert listen.connections_max > 10_000
    assert listen.connections_per_address_max > 10_000
