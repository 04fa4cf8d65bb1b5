"""
Where Redis is and how it is reached, as an operator writes it: one server, a primary that sentinels know, or a cluster.

    redis://[USER@]HOST[:6379][/DATABASE]                            one server
    unix:///PATH[?db=DATABASE]                                       one server, through a socket
    redis+sentinel://[USER@]HOST[:26379],.../SERVICE[/DATABASE]      the primary of a service
    redis+cluster://[USER@]HOST[:6379],...                           a cluster: any of its nodes, the others follow

`rediss` in the place of `redis` is TLS, to the sentinels too. Secrets and certificates are no part of it (`Access`).
"""

import ssl
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from proxy.fatal import Fatal

DATABASES = 1024
NODES_MAX = 64


class UnusableCertificate(Fatal):
    """A certificate or key cannot be read or is not what it should be."""


class Node(NamedTuple):
    """Where one server listens: a host and its port, or a unix socket's path and 0."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as an operator reads it."""
        return f"{self.host}:{self.port}" if self.port else self.host


class Deployment(StrEnum):
    """What an address leads to."""

    ALONE = "alone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_PORTS = {Deployment.ALONE: 6379, Deployment.SENTINEL: 26379, Deployment.CLUSTER: 6379}


@dataclass(frozen=True, slots=True)
class Address:
    """What a URL says."""

    kind: Deployment
    places: tuple[Node, ...]
    """The server; or the sentinels; or nodes of the cluster."""
    tls: bool = False
    username: str = ""
    service: str = ""
    """What the sentinels call the primary and its replicas."""
    database: int = 0

    @classmethod
    def of(cls, url: str) -> Self:
        """
        Read a URL.

        Raises: ValueError, which says what is wrong with it.
        """
        parts = urlsplit(url)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        username = unquote(userinfo)
        if ":" in userinfo or "password" in parse_qs(parts.query):
            raise ValueError("must not carry a password: put it in a file and name that in password_file")
        if parts.scheme == "unix":
            if not parts.path.strip("/") or hosts:
                raise ValueError("must name a socket: unix:///run/redis.sock")
            place = Node(unquote(parts.path), 0)
            return cls(Deployment.ALONE, (place,), username=username, database=_socket_database(parts))
        if parts.query or parts.fragment:
            raise ValueError("must end after its path; certificates are named in ca_file, cert_file and key_file")
        transport, _, form = parts.scheme.partition("+")
        if transport not in ("redis", "rediss") or form not in ("", "sentinel", "cluster"):
            raise ValueError("must begin with redis, rediss (either with +sentinel or +cluster) or unix, and ://")
        kind = Deployment(form or "alone")
        service, database = _path(parts.path, kind)
        return cls(kind, _places(hosts, kind), transport == "rediss", username, service, database)


@dataclass(frozen=True, slots=True)
class Access:
    """What this gateway shows to Redis, and by what it knows Redis; empty where nothing is asked."""

    password: str = ""
    sentinel_username: str = ""
    sentinel_password: str = ""
    ca_file: Path | None = None
    """The authorities that may vouch for Redis; None for those that the system trusts."""
    cert_file: Path | None = None
    key_file: Path | None = None

    def context(self) -> ssl.SSLContext:
        """
        Return what TLS is spoken with: a server whose certificate does not hold for its name is not spoken to.

        Raises: UnusableCertificate.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:
            raise UnusableCertificate(f"{self.ca_file} is no file of certificates: {error}") from None
        if self.cert_file is not None:
            try:
                # A key with a passphrase is refused: nobody is there to be asked for it.
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except OSError as error:
                raise UnusableCertificate(f"{self.cert_file} and {self.key_file} do not go together: {error}") from None
        return context


def _places(hosts: str, kind: Deployment) -> tuple[Node, ...]:
    places = tuple(_place(text, _PORTS[kind]) for text in hosts.split(","))
    if len(places) > 1 and kind is Deployment.ALONE:
        raise ValueError("must name one server; several are of redis+sentinel:// or redis+cluster://")
    if len(places) > NODES_MAX:
        raise ValueError(f"must name {NODES_MAX} at most")
    return places


def _place(text: str, usual_port: int) -> Node:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, 0
    if not host or port == 0:
        raise ValueError(f"must name a host, and a port from 1 to 65535 if any, not {text!r}")
    return Node(host, port or usual_port)


def _path(path: str, kind: Deployment) -> tuple[str, int]:
    words = [unquote(word) for word in path.split("/") if word]
    service = ""
    if kind is Deployment.SENTINEL:
        if not words:
            raise ValueError("must name the service that the sentinels watch: redis+sentinel://HOST,HOST/SERVICE")
        service = words.pop(0)
    if len(words) > 1 or (words and kind is Deployment.CLUSTER):
        raise ValueError(f"has too much behind its {kind.value if kind is not Deployment.ALONE else 'host'}")
    return service, _database(words[0]) if words else 0


def _socket_database(parts: SplitResult) -> int:
    asked = parse_qs(parts.query)
    if asked.keys() - {"db"} or parts.fragment:
        raise ValueError("must end after its path, or with ?db=DATABASE")
    return _database(asked["db"][0]) if asked else 0


def _database(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < DATABASES):
        raise ValueError(f"must end with a database's number, not {text!r}")
    return int(text)
