"""What the operator's guide shows is what the gateway takes."""

import re
import tomllib
from pathlib import Path

from proxy.settings.loading import parse

README = Path(__file__).parents[3] / "deploy" / "README.md"
REST = """
models = [{ name = "m", context_tokens = 1000, replicas = [{ name = "r", url = "http://r:8000" }] }]
plans.pro = {}
tenants.acme.plans = ["pro"]
"""


def test_the_examples_of_identity_providers_are_sound_configs() -> None:
    [block] = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    issuers = tomllib.loads(block)["auth"]["issuers"]
    assert len(issuers) == 3
    settings = parse(f"{REST}\n{block}", {})
    assert all(issuer.publishes for issuer in settings.auth.issuers)
