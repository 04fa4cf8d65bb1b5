from collections.abc import Callable

import pytest

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize("name", ["", "x" * 129, "a\\nb", " a", "a ", "\\u0000", "\\u200e"])
def test_a_name_is_short_and_printable(faults: Faults, name: str) -> None:
    assert list(faults(('name = "m"', f'name = "{name}"'))) == ["models[0].name"]


@pytest.mark.parametrize(
    "url", ["r:8000", "ftp://r", "http://", "http://u:p@r", "http://r?x=1", "http://r#x", "http://[", "http://r:99999"]
)
def test_a_replicas_address_is_plain(faults: Faults, url: str) -> None:
    assert list(faults(("http://r:8000", url))) == ["models[0].replicas[0].url"]


def test_a_tenant_can_never_be_let_past_the_gateway(faults: Faults) -> None:
    found = faults(('"m",', '"m", extra_fields = ["guided_json", "cache_salt"],'))
    assert "cache_salt" in found["models[0].extra_fields"]
