"""The fleet of a config: what is launched here, what runs elsewhere, and who is up."""

from pathlib import Path

import pytest

from engine.wire.client import DirectUpstream
from proxy.compose.fleet import launched, placed, pooled
from proxy.fatal import Fatal
from proxy.observe.metrics import Metrics
from proxy.settings import Settings, load
from tests.exposition import total

CONFIG = """
[[auth.issuers]]
issuer = "tests"
algorithms = ["HS256"]
development = true

[[models]]
name = "here"
context_tokens = 4096
launch = {{ engine = "sim"{args} }}
replicas = [{{ name = "here-0", sequences = 3 }}]

[[models]]
name = "elsewhere"
context_tokens = 4096
replicas = [{{ name = "elsewhere-0", url = "http://127.0.0.1:9", group = "canary" }}]

[plans.all]
[tenants.acme]
plans = ["all"]
"""


def settings(folder: Path, args: str = "") -> Settings:
    """Load a config with a launched replica and one that nobody runs."""
    path = folder / "tollway.toml"
    path.write_text(CONFIG.format(args=args))
    return load(path, {})


async def test_launched_replicas_come_up_and_absent_ones_are_down(tmp_path: Path) -> None:
    config, metrics = settings(tmp_path), Metrics()
    async with (
        launched(config) as ours,
        DirectUpstream(1.0) as upstream,
        pooled(config, urls := ours.places(config).urls, upstream, metrics) as fleet,
    ):
        here, elsewhere = fleet.pools["here"]["here-0"], fleet.pools["elsewhere"]["elsewhere-0"]
        assert (here.healthy, here.sequences, here.url) == (True, 3, urls["here-0"])
        assert (elsewhere.healthy, elsewhere.group, elsewhere.url) == (False, "canary", "http://127.0.0.1:9")
    text = metrics.render()[0].decode()
    assert [total(text, "tollway_replica_up", replica=f"{name}-0") for name in ("here", "elsewhere")] == [1, 0]


async def test_a_replica_that_cannot_start_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"here-0 exited with status 2"):
        async with launched(settings(tmp_path, ', args = ["--wings"]')):
            pass


def test_who_uses_the_replicas_of_another_finds_each_of_them_elsewhere(tmp_path: Path) -> None:
    config = settings(tmp_path)
    used = placed(config, {"here-0": "http://127.0.0.1:41000", "elsewhere-0": "http://127.0.0.1:9"})
    [here], [elsewhere] = (model.replicas for model in used.models)
    assert [model.launch for model in used.models] == [None, None]
    assert (here.url, here.sequences, here.abort_path) == ("http://127.0.0.1:41000", 3, "/abort_requests")
    assert elsewhere == config.models[1].replicas[0]
