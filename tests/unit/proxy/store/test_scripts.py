"""Every script says what it takes and gives, and is shipped."""

from importlib.resources import files

import pytest

from proxy.redis.script import Script
from proxy.store import scripts

SCRIPTS = [value for value in vars(scripts).values() if isinstance(value, Script)]
FILES = {
    file.name.removesuffix(".lua"): file.read_text()
    for room in (files("proxy.store") / "lua").iterdir()
    if room.name != "lib"
    for file in room.iterdir()
}


def test_every_script_file_has_its_constant() -> None:
    assert {script.name for script in SCRIPTS} == FILES.keys()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_header_names_keys_arguments_and_answer(script: Script) -> None:
    header = [line for line in FILES[script.name].partition("\n\n")[0].splitlines() if line]
    assert all(line.startswith("--") for line in header)
    for word in ("-- KEYS", "-- ARGV", "-- Returns"):
        assert any(line.startswith(word) for line in header), word
