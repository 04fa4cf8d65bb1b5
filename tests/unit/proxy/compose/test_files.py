"""Files that a config names, looked at and not made."""

from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.compose.files import looked_at
from proxy.settings.loading import parse
from tests.certificates import Authority

CONFIG = """
redis.url = "rediss://redis:6379"
redis.password_file = "password"
redis.ca_file = "ca.pem"
routing.cache_secret_file = "cache"
plans.p = {}
tenants.t = { plans = ["p"] }

[[auth.issuers]]
issuer = "i"
algorithms = ["HS256"]
key_file = "i.key"

[[auth.issuers]]
issuer = "d"
algorithms = ["HS256"]
development = true
key_file = "made"

[[models]]
name = "m"
context_tokens = 1000
replicas = [{ name = "r", url = "http://r:8000", api_key_file = "engine-key" }]
"""
NAMED = {
    "redis.password_file": "password",
    "redis.ca_file": "ca.pem",
    "auth.issuers[0].key_file": "i.key",
    "models[0].replicas[0].api_key_file": "engine-key",
    "routing.cache_secret_file": "cache",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Authority(tmp_path)
    for name in NAMED.values():
        if name != "ca.pem":
            (tmp_path / name).write_text("x" * 32)
    return tmp_path


def paths(folder: Path) -> tuple[list[str], list[str]]:
    absent, useless = looked_at(parse(CONFIG, {}, folder=folder))
    return [fault.path for fault in absent], [fault.path for fault in useless]


def test_files_that_hold_what_they_should_are_not_talked_about_and_none_is_made(folder: Path) -> None:
    assert paths(folder) == ([], [])
    assert not (folder / "made").exists()


@pytest.mark.parametrize("field", NAMED)
def test_one_that_is_not_there_is_no_fault(folder: Path, field: str) -> None:
    (folder / NAMED[field]).unlink()
    assert paths(folder) == ([field], [])


def _a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


WRONG: list[tuple[str, Callable[[Path], object]]] = [
    *((field, _a_folder) for field in NAMED),
    ("redis.ca_file", lambda path: path.write_text("no PEM")),
    ("auth.issuers[0].key_file", lambda path: path.write_text("short")),
    ("models[0].replicas[0].api_key_file", lambda path: path.write_text("two words")),
    ("routing.cache_secret_file", lambda path: path.write_text("short")),
]


@pytest.mark.parametrize(("field", "spoil"), WRONG)
def test_one_that_cannot_be_used_is_a_fault_of_its_field(
    folder: Path, field: str, spoil: Callable[[Path], object]
) -> None:
    spoil(folder / NAMED[field])
    absent, (useless,) = paths(folder)
    assert absent == []
    assert useless == (field if not field.startswith("redis.") else "redis")
