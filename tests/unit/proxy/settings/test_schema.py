from pathlib import Path as FilePath
from typing import Any

import pytest

from proxy.settings.schema import Path, keys_at, types_at


@pytest.mark.parametrize(
    ("path", "types"),
    [
        (["listen", "port"], [int]),
        (["redis", "url"], [str, type(None)]),
        (["auth", "issuers", 0, "key_file"], [FilePath, type(None)]),
        (["models", 7, "launch", "engine"], [str]),
        (["plans", "any", "limits", 0, "scope"], [str]),
        (["nowhere"], []),
        (["listen", "port", "below"], []),
    ],
)
def test_the_annotations_tell_what_may_stand_where(path: Path, types: list[Any]) -> None:
    assert types_at(path) == types


def test_a_section_knows_its_keys() -> None:
    assert keys_at(["models", 0, "launch"]) == ["engine", "weights", "args"]
    assert keys_at(["models"]) == []
