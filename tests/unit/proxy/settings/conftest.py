"""A config with nothing in it that could be left out, and its faults once something is changed."""

from collections.abc import Callable, Mapping

import pytest

from proxy.settings import ConfigError
from proxy.settings.loading import parse

MINIMAL = """
auth.issuers = [{ issuer = "i", key_file = "i.pem" }]
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "http://r:8000" }] }]
plans.p = {}
tenants.t = { plans = ["p"] }
"""

Faults = Callable[..., dict[str, str]]


@pytest.fixture
def minimal() -> str:
    return MINIMAL


@pytest.fixture
def faults() -> Faults:
    """Return a function from a config's text (and replacements in the minimal one) to its faults by path."""

    def faults_of(
        *replacements: tuple[str, str], more: str = "", env: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        text = MINIMAL
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        try:
            parse(f"{text}\n{more}", env or {})
        except ConfigError as error:
            return dict(error.faults)
        return {}

    return faults_of
