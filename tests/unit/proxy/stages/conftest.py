"""A request that has been understood, and what the stages need to serve it."""

from pathlib import Path

import pytest

from engine.protocols.openai import CHAT
from proxy.call import Call
from proxy.identity.principal import Principal
from proxy.tally import Tally
from tests.unit.proxy.gateway import Gateway, gateway
from tests.unit.proxy.test_call import CHAT_BODY, call


@pytest.fixture
def gw(tmp_path: Path) -> Gateway:
    return gateway(tmp_path)


@pytest.fixture
def asked(gw: Gateway) -> Call:
    return call(gw.catalog, CHAT_BODY | {"max_tokens": 100, "n": 2})


@pytest.fixture
def tally(asked: Call) -> Tally:
    return Tally(CHAT, "01JC0000000000000000000000", principal=Principal("acme", "ada", "pro"), call=asked)
