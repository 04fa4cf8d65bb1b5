from pathlib import Path

import pytest

from proxy.cli.connected import connected
from proxy.fatal import Fatal
from proxy.settings import load


def test_without_a_redis_of_its_own_a_command_needs_the_embedded_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fatal, match="is not running; `tollway up` starts it"):
        connected(load(None, {}))
    connected(load(None, {"TOLLWAY__REDIS__URL": "redis://redis:6379"}))
