import asyncio
import re
import shlex
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from proxy.app import Addresses
from proxy.catalog import Catalog
from proxy.cli.banner import banner
from proxy.identity.tokens import Verifier
from proxy.settings import Settings, load

PRODUCTION = Path(__file__).parents[4] / "deploy" / "examples" / "production.toml"
ADDRESSES = Addresses("http://127.0.0.1:8081", "http://127.0.0.1:9091", {"demo-0": "http://127.0.0.1:41000"})


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.chdir(tmp_path)
    return load(None, {})


def test_it_says_where_everything_is(demo: Settings) -> None:
    told = banner(demo, ADDRESSES)
    assert "base URL   http://127.0.0.1:8081/v1" in told
    assert "admin      http://127.0.0.1:9091/metrics" in told
    assert "demo-0     http://127.0.0.1:41000" in told


def test_it_says_ready_when_it_is(demo: Settings) -> None:
    assert banner(demo, ADDRESSES).startswith("\nTollway is ready.\n")


def test_without_a_replica_it_is_not_ready_and_says_why(demo: Settings) -> None:
    named = [each.name for model in demo.models for each in model.replicas]
    urls = {name: f"http://{name}" for name in named}
    down = replace(ADDRESSES, replica_urls=urls, troubles=dict.fromkeys(named, "Connection refused"))
    told = banner(demo, down)
    assert "Tollway is NOT ready" in told
    assert "Tollway is ready" not in told
    for name in named:
        assert f"  {name:<10} http://{name}   down: Connection refused\n" in told
    one_up = replace(down, troubles=dict.fromkeys(named[1:], "Connection refused"))
    assert "Tollway is ready.\n" in banner(demo, one_up)


def test_a_model_that_nobody_serves_is_named() -> None:
    settings = load(PRODUCTION, {})
    assert len(settings.models) > 1
    unserved = settings.models[0]
    told = banner(settings, replace(ADDRESSES, troubles={each.name: "TLS" for each in unserved.replicas}))
    assert f"Tollway is ready, but for {unserved.name}: " in told


def test_the_curl_is_one_shell_command_with_a_token_that_is_believed(demo: Settings) -> None:
    command = re.search(r"^curl .*?[^\\]$", banner(demo, ADDRESSES), re.MULTILINE | re.DOTALL)
    assert command is not None
    words = shlex.split(command[0].replace("\\\n", ""))
    assert words[:3] == ["curl", "-N", "http://127.0.0.1:8081/v1/chat/completions"]
    token = next(word for word in words if word.startswith("Authorization: Bearer ")).rpartition(" ")[2]
    principal = asyncio.run(Verifier.of(demo, Catalog.of(demo)).verify(token))
    assert (principal.tenant, principal.plan) == ("acme", "pro")
    assert orjson.loads(words[-1])["model"] == "demo"


def test_the_python_snippet_compiles(demo: Settings) -> None:
    snippet = re.search(r"<<'EOF'\n(.*?)^EOF$", banner(demo, ADDRESSES), re.MULTILINE | re.DOTALL)
    assert snippet is not None
    compile(snippet[1], "snippet", "exec")
    assert 'base_url="http://127.0.0.1:8081/v1"' in snippet[1]


def test_without_a_development_issuer_nothing_is_signed() -> None:
    told = banner(load(PRODUCTION, {}), ADDRESSES)
    assert "base URL" in told
    assert "Bearer" not in told
