"""Where people connect: `[listen]` and `[admin]`."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from proxy.edge.forwarded import networks
from proxy.settings.sections.base import Section
from proxy.settings.values import Domain, Port, Seconds


def _origin(value: str) -> str:
    parts = urlsplit(value)
    if value != "*" and (parts.scheme not in ("http", "https") or value != f"{parts.scheme}://{parts.netloc}"):
        raise ValueError("must look like https://host or https://host:port, or be '*'")
    return value


Origin = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_origin)]


def _network(value: str) -> str:
    try:
        networks([value])
    except ValueError:
        raise ValueError("must be an address or a network such as 10.0.0.0/8, with no bits set behind it") from None
    return value


ProxyNetwork = Annotated[str, AfterValidator(_network)]


class Listen(Section):
    """Where clients reach the gateway."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all."""
    port: Port = 8080
    """TCP port; 0 takes a free one."""
    connections_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Open connections; one more is answered 503 and closed. Each takes a file descriptor of the process's limit."""
    connections_per_address_max: Annotated[int, Field(ge=1, le=1_000_000)] = 4_000
    """Open connections from one address; one more is answered 429 and closed. A load balancer is one address."""
    head_s_max: Seconds = 10.0
    """Seconds for a request's headers to arrive, and for a new connection's first byte."""
    keep_alive_s: Seconds = 75.0
    """Seconds that a connection may wait for its next request; more than a load balancer's own, or it will meet closed
    connections."""
    trusted_proxies: tuple[ProxyNetwork, ...] = ()
    """Networks or addresses of proxies and load balancers before the gateway, such as `10.0.0.0/8`. On their
    connections a client's address is the rightmost of `X-Forwarded-For` that is not in these; no other's word counts.
    Tokens are checked in an order fair by that address; connections are counted by who connects."""
    cors_origins: tuple[Origin, ...] = ()
    """Origins whose pages may call the gateway from a browser, such as `https://console.example.com`; `*` is any. None:
    no browser may."""


class Admin(Section):
    """Where operators and Prometheus reach it. Keep it off public networks: `/metrics` asks for no token."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""
    port: Port = 9090
    """TCP port; 0 takes a free one."""
    names: tuple[Domain, ...] = ()
    """Host names by which `POST /admin/reload` may be called, beside addresses and `localhost`: no page reaches it that
    has a name of its own lead here."""
