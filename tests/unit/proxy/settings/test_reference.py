import tomllib
from pathlib import Path

import pytest

from proxy.settings import load
from proxy.settings.reference import markdown
from proxy.settings.sections import Section

DEPLOY = Path(__file__).parents[4] / "deploy"


def test_the_reference_in_the_repository_is_fresh() -> None:
    assert (DEPLOY / "config-reference.md").read_text() == markdown(), (
        "run: python -m proxy.settings.reference > deploy/config-reference.md"
    )


def _sections(section: type[Section]) -> list[type[Section]]:
    return [found for child in section.__subclasses__() for found in (child, *_sections(child))]


@pytest.mark.parametrize("section", _sections(Section), ids=lambda section: section.__name__)
def test_every_field_is_explained(section: type[Section]) -> None:
    assert section.__doc__
    unexplained = [name for name, field in section.model_fields.items() if not field.description]
    assert section.__name__ == "Settings" or unexplained == []


@pytest.mark.parametrize("example", sorted((DEPLOY / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_every_example_is_sound_where_its_secrets_are_not(example: Path) -> None:
    settings = load(example, {})
    assert set(tomllib.loads(example.read_text())["tenants"]) == set(settings.tenants)


def test_there_is_a_production_example_without_a_development_issuer() -> None:
    settings = load(DEPLOY / "examples" / "production.toml", {})
    assert not any(issuer.development for issuer in settings.auth.issuers)
    assert settings.redis.url is not None


def test_the_production_example_is_ready_for_load_balancers_hang_ups_and_rotated_keys() -> None:
    settings = load(DEPLOY / "examples" / "production.toml", {})
    assert settings.limits.drain_notice_s > 0
    assert settings.listen.connections_per_address_max == settings.listen.connections_max
    generating = [model for model in settings.models if "embeddings" not in model.endpoints]
    assert all(replica.abort_path for model in generating for replica in model.replicas)
    assert any(issuer.publishes for issuer in settings.auth.issuers)
