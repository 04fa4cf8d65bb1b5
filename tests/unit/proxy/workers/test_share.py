"""What each worker may take, and that all of them together take no more than there is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings import Settings, load
from proxy.settings.loading import parse
from proxy.workers.share import TooFewSequences, shared_out

ROOT = Path(__file__).parents[4]
CONFIG = """
auth.issuers = [{ issuer = "dev", algorithms = ["HS256"], development = true }]
plans.pro = {}
tenants.acme.plans = ["pro"]
"""


def config(*sequences: int, more: str = "") -> Settings:
    replicas = ", ".join(
        f'{{ name = "r{at}", url = "http://r{at}:8000", sequences = {room} }}' for at, room in enumerate(sequences)
    )
    models = f'models = [{{ name = "demo", context_tokens = 4096, replicas = [{replicas}] }}]\n'
    return parse(models + CONFIG + more, {}, folder=Path("/srv"))


def sequences(settings: Settings) -> list[int]:
    return [replica.sequences for model in settings.models for replica in model.replicas]


@given(rooms=st.lists(st.integers(1, 2_000), min_size=1, max_size=8), workers=st.integers(1, 64))
def test_a_replicas_room_is_shared_out_whole_and_everyone_has_some(rooms: list[int], workers: int) -> None:
    rooms = [max(room, workers) for room in rooms]
    shares = [sequences(share) for share in shared_out(config(*rooms), workers)]
    assert [sum(of_one) for of_one in zip(*shares, strict=True)] == rooms
    assert min(min(share) for share in shares) >= 1
    everything = [sum(share) for share in shares]
    assert max(everything) - min(everything) <= 1, "what is left over does not all go to the same"


def test_one_worker_has_everything() -> None:
    settings = config(7, 5)
    assert shared_out(settings, 1) == (settings,)


def test_more_workers_than_sequences_are_refused_and_every_such_replica_is_named() -> None:
    with pytest.raises(TooFewSequences) as caught:
        shared_out(config(2, 4, 3), 4)
    told = "4 workers need a sequence each on every replica: r0 of demo has 2, r2 of demo has 3"
    assert str(caught.value) == told


def test_connections_and_bodies_are_shared_out_and_none_becomes_nothing() -> None:
    more = "[listen]\nconnections_max = 9\nconnections_per_address_max = 1\n[limits]\nbodies_bytes_max = 30_000_000\n"
    share = shared_out(config(64, more=more), 4)[3]
    assert (share.listen.connections_max, share.listen.connections_per_address_max) == (3, 1)
    assert share.limits.bodies_bytes_max == 10 * 2**20, "the largest body fits"
    assert shared_out(config(64), 4)[0].limits.bodies_bytes_max == 2**30 / 4


@pytest.mark.parametrize("path", sorted((ROOT / "deploy").rglob("*.toml")), ids=lambda path: path.name)
def test_a_share_reads_as_a_config_again(path: Path) -> None:
    for share in shared_out(load(path, {}), 3):
        assert Settings.model_validate_json(share.model_dump_json()) == share
