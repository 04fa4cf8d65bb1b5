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


@pytest.mark.parametrize("url", ["http://r:8000/v1", "http://r:8000/engine", "https://r//x"])
def test_a_replicas_address_has_no_path(faults: Faults, url: str) -> None:
    found = faults(("http://r:8000", url))
    assert found == {"models[0].replicas[0].url": "must end behind host:port: /v1 and all other paths are added to it"}


TLS = '{ name = "r", url = "https://r:8000", ca_file = "ca", cert_file = "c", key_file = "k", api_key_file = "a" }'
REPLICA = '{ name = "r", url = "http://r:8000" }'


def test_an_engine_may_want_a_key_a_name_and_a_certificate(faults: Faults) -> None:
    assert faults((REPLICA, TLS)) == {}
    named = '"m", upstream_model = "meta/Llama", api_key_file = "a", ca_file = "ca", '
    assert faults(('"m",', named), (REPLICA, TLS.replace('name = "r"', 'name = "r", upstream_model = "b"'))) == {}


@pytest.mark.parametrize("field", ["ca_file", "cert_file", "key_file"])
def test_certificates_are_of_no_use_in_clear_text(faults: Faults, field: str) -> None:
    pair = 'cert_file = "c", key_file = "k"' if field != "ca_file" else 'ca_file = "c"'
    found = faults((REPLICA, f'{{ name = "r", url = "http://r:8000", {pair} }}'))
    assert found[f"models[0].replicas[0].{field}"] == "is of no use without a url that begins with https"
    assert faults(('"m",', f'"m", {pair},'))[f"models[0].{field}"] == "is of no use without a replica at https"


@pytest.mark.parametrize("field", ["cert_file", "key_file"])
def test_a_certificate_and_its_key_go_together(faults: Faults, field: str) -> None:
    half = TLS.replace('cert_file = "c", key_file = "k"', f'{field} = "x"')
    assert faults((REPLICA, half)) == {"models[0].replicas[0].key_file": "and cert_file go together"}
    whole = (REPLICA, TLS)
    assert faults(whole, ('"m",', f'"m", {field} = "x",')) == {"models[0].key_file": "and cert_file go together"}


def test_a_replica_that_the_gateway_launches_has_the_models_name(faults: Faults) -> None:
    launched = '"m", launch = { engine = "sim" }, upstream_model = "x",'
    found = faults(('"m",', launched), (REPLICA, '{ name = "r", upstream_model = "y" }'))
    assert list(found) == ["models[0].replicas[0].upstream_model", "models[0].upstream_model"]
