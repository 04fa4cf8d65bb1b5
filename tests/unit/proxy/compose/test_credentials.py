"""Which files speak for which replica, and by which path of the config a fault of one is told."""

from pathlib import Path

import pytest

from proxy.compose.credentials import credentials
from proxy.settings import ConfigError, Settings
from proxy.settings.loading import parse
from tests.certificates import Authority
from tests.unit.proxy.settings.conftest import MINIMAL

MODEL = """
models = [{ name = "m", context_tokens = 1000, api_key_file = "shared", ca_file = "ca.pem", replicas = [
    { name = "clear", url = "http://r:8000" },
    { name = "secured", url = "https://r:8443", api_key_file = "own" },
] }]
"""


def settings(folder: Path) -> Settings:
    lines = [line for line in MINIMAL.splitlines() if not line.startswith("models")]
    return parse("\n".join([*lines[:2], MODEL, *lines[2:]]), {}, folder=folder)


def test_a_replicas_own_files_come_before_its_models(tmp_path: Path) -> None:
    Authority(tmp_path)
    (tmp_path / "shared").write_text("one")
    (tmp_path / "own").write_text("two")
    read = credentials(settings(tmp_path))
    assert read["clear"].fields == b"authorization: Bearer one\r\n"
    assert read["secured"].fields == b"authorization: Bearer two\r\n"
    assert (read["clear"].tls is None, read["secured"].tls is None) == (True, False)


def test_every_fault_is_told_where_the_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no PEM")
    (tmp_path / "own").write_text("two")
    with pytest.raises(ConfigError) as caught:
        credentials(settings(tmp_path))
    assert [*map(str, caught.value.faults)] == [
        f"models[0].api_key_file: {tmp_path / 'shared'} cannot be read: No such file or directory",
        f"models[0].ca_file: {tmp_path / 'ca.pem'} holds no certificates in PEM",
    ]
