from collections.abc import Callable

import pytest

Faults = Callable[..., dict[str, str]]


@pytest.mark.parametrize("section", ["listen", "admin"])
@pytest.mark.parametrize(("line", "path"), [("port = 65_536", "port"), ("port = -1", "port"), ("host = ''", "host")])
def test_an_address_that_cannot_be_listened_on_is_refused(faults: Faults, section: str, line: str, path: str) -> None:
    assert list(faults(more=f"[{section}]\n{line}")) == [f"{section}.{path}"]


@pytest.mark.parametrize(
    "origin", ["", "example.com", "https://a/", "https://a/b", "ftp://a", "null", "https://a, https://b"]
)
def test_an_origin_is_a_scheme_and_a_host(faults: Faults, origin: str) -> None:
    assert list(faults(more=f"[listen]\ncors_origins = ['{origin}']")) == ["listen.cors_origins[0]"]


def test_listed_origins(faults: Faults) -> None:
    assert not list(faults(more="[listen]\ncors_origins = ['*', 'https://a.example:8443']"))


@pytest.mark.parametrize("line", ["connections_max = 0", "connections_per_address_max = 0", "head_s_max = 0.0"])
def test_a_bound_on_connections_bounds_something(faults: Faults, line: str) -> None:
    assert list(faults(more=f"[listen]\n{line}")) == [f"listen.{line.partition(' ')[0]}"]


@pytest.mark.parametrize("network", ["10.0.0.1/8", "somewhere", "", "10.0.0.0/33"])
def test_a_proxy_that_is_no_network(faults: Faults, network: str) -> None:
    assert list(faults(more=f"[listen]\ntrusted_proxies = ['{network}']")) == ["listen.trusted_proxies[0]"]


def test_proxies_are_networks_or_addresses(faults: Faults) -> None:
    assert not list(faults(more="[listen]\ntrusted_proxies = ['10.0.0.0/8', '192.0.2.7', '2001:db8::/32']"))
