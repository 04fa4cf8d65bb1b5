"""What the operator's guide shows is what the gateway takes."""

import re
import tomllib
from pathlib import Path

from proxy.errors import TABLE, Code
from proxy.redis.address import Address, Deployment
from proxy.settings.loading import parse

README = Path(__file__).parents[3] / "deploy" / "README.md"
REST = """
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "http://r:8000" }] }]
plans.pro = {}
tenants.acme.plans = ["pro"]
"""


def example(section: str) -> str:
    """Return the one config that a section shows."""
    [block] = re.findall(r"```toml\n(.*?)```", README.read_text().partition(f"\n## {section}\n")[2], re.DOTALL)[:1]
    return str(block)


def test_every_address_of_redis_is_one_that_the_gateway_takes() -> None:
    lines = example("Redis").splitlines()
    urls = [line for line in lines if line.startswith("url")]
    others = [line for line in lines if not line.startswith("url")]
    for url in urls:
        lacks = [] if "sentinel" in url else [line for line in others if line.startswith("sentinel")]
        text = "\n".join([*(line for line in others if line not in lacks), url])
        issuer = 'auth.issuers = [{ issuer = "i", algorithms = ["HS256"], development = true }]'
        assert parse(f"{issuer}\n{REST}\n{text}", {}).redis.url == tomllib.loads(url)["url"]
    kinds = {Address.of(tomllib.loads(url)["url"]).kind for url in urls}
    assert kinds == set(Deployment)


def test_the_examples_of_identity_providers_are_sound_configs() -> None:
    block = example("Identity providers")
    issuers = tomllib.loads(block)["auth"]["issuers"]
    assert len(issuers) == 3
    settings = parse(f"{REST}\n{block}", {})
    assert all(issuer.publishes for issuer in settings.auth.issuers)


def test_every_code_of_an_error_is_told_with_its_status() -> None:
    section = README.read_text().partition("\n## Errors\n")[2].partition("\n## ")[0]
    told: dict[str, str] = {}
    for codes, statuses in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", section, re.MULTILINE):
        names, numbers = re.findall(r"`(\w+)`", codes), statuses.split(", ")
        told |= dict(zip(names, numbers if len(numbers) > 1 else numbers * len(names), strict=True))
    in_band = {Code.STREAM_TRUNCATED: "in-band"}
    assert told == {code: in_band.get(code, str(row.status)) for code, row in TABLE.items()}
