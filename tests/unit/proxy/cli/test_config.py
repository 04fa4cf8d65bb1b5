from pathlib import Path

import pytest

from proxy.cli.config import settings_of
from proxy.settings import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_without_a_file_it_is_the_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOLLWAY__LISTEN__PORT", "8123")
    settings = settings_of(None)
    assert [model.name for model in settings.models] == ["demo"]
    assert settings.listen.port == 8123


def test_a_tollway_toml_in_this_folder_goes_first(folder: Path) -> None:
    (folder / "tollway.toml").write_text("[nothing]\n")
    with pytest.raises(ConfigError, match="nothing"):
        settings_of(None)


def test_a_file_that_is_not_there_is_a_fault(folder: Path) -> None:
    with pytest.raises(ConfigError):
        settings_of(folder / "absent.toml")
