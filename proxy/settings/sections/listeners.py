"""Where people connect: `[listen]` and `[admin]`."""

from typing import Annotated

from pydantic import Field

from proxy.settings.sections.base import Section
from proxy.settings.values import Port


class Listen(Section):
    """Where clients reach the gateway."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all."""
    port: Port = 8080
    """TCP port; 0 takes a free one."""


class Admin(Section):
    """Where operators and Prometheus reach it. Keep it off public networks: `/metrics` asks for no token."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""
    port: Port = 9090
    """TCP port; 0 takes a free one."""
