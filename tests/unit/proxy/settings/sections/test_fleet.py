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


@pytest.mark.parametrize(
    "domain", ["", "A.example", "a.example.", "a:443", "https://a", "a/b", "u@a", "b\u00fccher.de", "*"]
)
def test_a_host_of_media_is_written_as_it_is_looked_up(faults: Faults, domain: str) -> None:
    found = faults(('"m",', f'"m", media = {{ tokens_max = 1, domains = ["{domain}"] }},'))
    assert list(found) == ["models[0].media.domains[0]"]


def test_media_need_a_bound(faults: Faults) -> None:
    assert list(faults(('"m",', '"m", media = { domains = [] },'))) == ["models[0].media.tokens_max"]
