from pathlib import Path

from proxy.settings import load
from tests.bench.candidates.candidate import Place
from tests.bench.candidates.tollway import CONFIG, overlay
from tests.bench.workloads import PACED


def test_the_benchs_config_is_sound_and_has_room_for_every_stream(tmp_path: Path) -> None:
    replicas = ["http://127.0.0.1:8001", "http://127.0.0.1:8002"]
    settings = load(CONFIG, overlay(Place(tmp_path, 8000, 9000, replicas)))
    (model,) = settings.models
    assert [replica.url for replica in model.replicas] == replicas
    assert (settings.listen.port, settings.admin.port) == (8000, 9000)
    assert sum(replica.sequences for replica in model.replicas) >= max(PACED)
    assert {(limit.scope, limit.unit) for limit in settings.plans["ample"].limits} == {
        ("user", "requests"),
        ("user", "tokens"),
    }
