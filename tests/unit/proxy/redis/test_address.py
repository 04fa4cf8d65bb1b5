"""What an operator may write as Redis' address, and what is made of it."""

from pathlib import Path

import pytest

from proxy.redis.address import Access, Address, Deployment, Node, UnusableCertificate


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://r", Address(Deployment.ALONE, (Node("r", 6379),))),
        ("rediss://bob@r:7/2", Address(Deployment.ALONE, (Node("r", 7),), tls=True, username="bob", database=2)),
        ("redis://b%40b@[::1]:7/", Address(Deployment.ALONE, (Node("::1", 7),), username="b@b")),
        ("unix:///run/redis.sock", Address(Deployment.ALONE, (Node("/run/redis.sock", 0),))),
        ("unix:///r%20s?db=3", Address(Deployment.ALONE, (Node("/r s", 0),), database=3)),
        (
            "redis+sentinel://one,two:7/main",
            Address(Deployment.SENTINEL, (Node("one", 26379), Node("two", 7)), service="main"),
        ),
        (
            "rediss+sentinel://bob@one/main/2",
            Address(Deployment.SENTINEL, (Node("one", 26379),), tls=True, username="bob", service="main", database=2),
        ),
        ("redis+cluster://one:7,two", Address(Deployment.CLUSTER, (Node("one", 7), Node("two", 6379)))),
        ("rediss+cluster://one", Address(Deployment.CLUSTER, (Node("one", 6379),), tls=True)),
    ],
)
def test_a_url_leads_somewhere(url: str, address: Address) -> None:
    assert Address.of(url) == address


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:6379", "begin with"),
        ("http://r", "begin with"),
        ("redis+magic://r", "begin with"),
        ("unix+cluster:///r", "begin with"),
        ("redis://", "name a host"),
        ("redis://r:0", "port"),
        ("redis://r:70000", "port"),
        ("redis://r:x", "port"),
        ("redis+cluster://one,", "name a host"),
        ("redis://one,two", "one server"),
        ("redis+cluster://" + ",".join(["r"] * 65), "at most"),
        ("redis+sentinel://one", "service"),
        ("redis+sentinel://one/main/2/3", "too much"),
        ("redis+cluster://one/2", "too much"),
        ("redis://r/main", "number"),
        ("redis://r/1024", "number"),
        ("redis://r?ssl_ca_certs=x", "ca_file"),
        ("redis://:secret@r", "password_file"),
        ("redis://r?password=x", "password_file"),
        ("unix://", "socket"),
        ("unix://run/redis.sock", "socket"),
        ("unix:///r?db=1&timeout=2", "db"),
    ],
)
def test_what_leads_nowhere_says_why(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Address.of(url)


def test_certificates_that_cannot_be_used_name_their_file(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    nothing.touch()
    for access in (Access(ca_file=tmp_path / "none.pem"), Access(ca_file=nothing), Access(cert_file=nothing)):
        with pytest.raises(UnusableCertificate, match=r"(none|nothing)\.pem"):
            access.context()
