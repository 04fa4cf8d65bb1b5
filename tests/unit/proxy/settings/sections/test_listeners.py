from collections.abc import Callable

import pytest

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize("section", ["listen", "admin"])
@pytest.mark.parametrize(("line", "path"), [("port = 65_536", "port"), ("port = -1", "port"), ("host = ''", "host")])
def test_an_address_that_cannot_be_listened_on_is_refused(faults: Faults, section: str, line: str, path: str) -> None:
    assert list(faults(more=f"[{section}]\n{line}")) == [f"{section}.{path}"]
