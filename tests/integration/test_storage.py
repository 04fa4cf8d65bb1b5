"""What a start says of a store that it cannot work with, and what it enters into one that it can."""

from pathlib import Path

import pytest

from proxy.compose.storage import embedded, incarnated, journalled, redis
from proxy.fatal import Fatal
from proxy.observe.metrics import Metrics
from proxy.redis.client import RedisClient
from proxy.settings import Settings, load
from proxy.store.membership.incarnation import Incarnation, tenants
from tests.exposition import total

CONFIG = """
[redis]
url = "{url}"
allow_unsafe = {unsafe}

[[auth.issuers]]
issuer = "tests"
algorithms = ["HS256"]
development = true

[[models]]
name = "demo"
context_tokens = 4096
replicas = [{{ name = "demo-0", url = "http://127.0.0.1:9" }}]

[plans.open]

[tenants]
acme.plans = ["open"]
globex.plans = ["open"]
"""


def settings(folder: Path, url: str, unsafe: str = "true") -> Settings:
    path = folder / "tollway.toml"
    path.write_text(CONFIG.format(url=url, unsafe=unsafe))
    return load(path, {"TOLLWAY__REDIS__DATA_DIR": str(folder / "data")})


async def test_a_redis_that_may_lose_bills_is_one_clear_line(tmp_path: Path, redis_url: str) -> None:
    with pytest.raises(Fatal, match="set appendonly to yes"):
        async with redis(settings(tmp_path, redis_url, "false"), Metrics()):
            pass


async def test_a_redis_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="does not answer"):
        async with redis(settings(tmp_path, f"unix://{tmp_path}/none"), Metrics()):
            pass


async def test_a_start_enters_every_tenant_and_is_in_the_metrics(tmp_path: Path, redis_url: str) -> None:
    config, metrics = settings(tmp_path, redis_url), Metrics()
    async with redis(config, metrics) as connection, incarnated(config, connection, metrics):
        assert await tenants(connection) == ["acme", "globex"]
        text = metrics.render()[0].decode()
    assert total(text, "tollway_ledger_emptied") == 0
    assert total(text, "tollway_redis_seconds_count", op="beat") >= 1


async def test_a_log_that_cannot_be_kept_is_one_clear_line(tmp_path: Path, connection: RedisClient) -> None:
    root = tmp_path / "file"
    root.write_text("")
    with pytest.raises(Fatal, match=f"cannot be kept in {root}"):
        async with journalled(root, Incarnation(connection), Metrics()):
            pass


async def test_a_redis_of_our_own_runs_for_who_connects_to_it_by_its_address(tmp_path: Path) -> None:
    config = settings(tmp_path, "unix:///named")
    async with embedded(config) as named:
        assert named is config, "it has one"
    nameless = config.model_copy(update={"redis": config.redis.model_copy(update={"url": None})})
    async with embedded(nameless) as named, redis(named, Metrics()) as connection:
        assert await connection.call("PING")
        with pytest.raises(Fatal, match="in use by another tollway"):
            async with embedded(nameless):
                pass
