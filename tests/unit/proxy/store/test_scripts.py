"""Every script says what it takes and gives, and is shipped."""

from importlib.resources import files

import pytest

from proxy.store import scripts
from proxy.store.scripts import Script

SCRIPTS = [value for value in vars(scripts).values() if isinstance(value, Script)]


def test_every_script_file_has_its_constant() -> None:
    names = {entry.name.removesuffix(".lua") for entry in (files("proxy.store") / "lua").iterdir() if entry.is_file()}
    assert {script.name for script in SCRIPTS} == names


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_header_names_keys_arguments_and_answer(script: Script) -> None:
    text = (files("proxy.store") / "lua" / f"{script.name}.lua").read_text()
    header = [line for line in text.partition("\n\n")[0].splitlines() if line]
    assert all(line.startswith("--") for line in header)
    for word in ("-- KEYS", "-- ARGV", "-- Returns"):
        assert any(line.startswith(word) for line in header), word


def test_the_sha_is_the_one_that_redis_computes() -> None:
    assert Script("x", "return 1").sha == "e0e1f9fabfc9d4800c877a703b823ac0578ff8db"
