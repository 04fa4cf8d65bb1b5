"""Whose address counts behind proxies: the rightmost that is not a proxy's of ours."""

import pytest

from proxy.edge.forwarded import client_address, is_trusted, networks

TRUSTED = networks(["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"])
PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded_for", "address"),
    [
        (b"", PEER),
        (b"203.0.113.9", "203.0.113.9"),
        (b"198.51.100.1, 203.0.113.9", "203.0.113.9"),
        (b"203.0.113.9, 10.1.2.3,192.0.2.7", "203.0.113.9"),
        (b"198.51.100.1, 203.0.113.9,   2001:db8::1", "203.0.113.9"),
        (b"10.9.9.9, 10.1.2.3", "10.9.9.9"),
        (b"203.0.113.9:4711", "203.0.113.9"),
        (b"[2a00::1]:4711", "2a00::1"),
        (b"2A00:0::1", "2a00::1"),
        (b"203.0.113.9, unknown", PEER),
        (b"203.0.113.9, nonsense, 10.1.2.3", "10.1.2.3"),
        (b"\xff", PEER),
        (b",".join([b"203.0.113.9"] + [b"10.0.0.2"] * 5_000), "10.0.0.2"),
    ],
)
def test_the_rightmost_address_that_is_no_proxys_is_the_clients(forwarded_for: bytes, address: str) -> None:
    assert client_address(PEER, forwarded_for, TRUSTED) == address


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("10.255.0.1", True), ("::ffff:10.0.0.1", True), ("2001:db8::1", True), ("11.0.0.1", False), ("", False)],
)
def test_a_proxy_is_trusted_by_its_network(*, address: str, trusted: bool) -> None:
    assert is_trusted(address, TRUSTED) is trusted
