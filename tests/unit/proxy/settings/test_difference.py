"""What is told to be different between two configs."""

from importlib.resources import files

import pytest

from proxy.settings.difference import changes
from proxy.settings.loading import parse

DEMO = files("proxy.settings").joinpath("demo.toml").read_text()
SECOND = '\n[[models.replicas]]\nname = "demo-1"\nsequences = 64\n'


def told(after: str, before: str = DEMO, **environment: str) -> list[str]:
    return [str(change) for change in changes(parse(before, {}), parse(after, environment))]


def test_what_is_the_same_is_not_told() -> None:
    assert told(DEMO) == []
    assert told(DEMO.replace("6_000", "6000") + "\n# Nothing.\n") == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("prompt = 150_000", "prompt = 1", ["prices.demo.prompt changed"]),
        ("amount = 20,", "amount = 21,", ["plans.free.limits changed"]),
        ("[tenants.globex]", "[tenants.hooli]", ["tenants.globex removed", "tenants.hooli added"]),
        ("[tenants.globex]", '[tenants."a.b"]', ["tenants.globex removed", 'tenants."a.b" added']),
        ("sequences = 64", "sequences = 65", ["models.demo.replicas.demo-0.sequences changed"]),
        ('aliases = ["gpt-4o-mini"]', "", ["models.demo.aliases changed"]),
        (
            "development = true",
            'development = true\naudience = "us"',
            ["auth.issuers.tollway-development.audience changed"],
        ),
        ("[models.launch]", "[models.media]\ntokens_max = 1\n[models.launch]", ["models.demo.media changed"]),
    ],
)
def test_each_thing_is_told_by_its_path(old: str, new: str, expected: list[str]) -> None:
    assert told(DEMO.replace(old, new, 1)) == expected


def test_one_more_at_the_front_is_one_more() -> None:
    more = '[[models.replicas]]\nname = "demo-2"\n\n[[models.replicas]]\nname = "demo-0"'
    assert told(DEMO.replace('[[models.replicas]]\nname = "demo-0"', more)) == ["models.demo.replicas.demo-2 added"]
    assert told(DEMO.replace(SECOND, "")) == ["models.demo.replicas.demo-1 removed"]


def test_what_the_environment_says_is_told_as_the_rest() -> None:
    assert told(DEMO, TOLLWAY__LIMITS__N_MAX="3", TOLLWAY__LISTEN__PORT="1") == [
        "listen.port changed",
        "limits.n_max changed",
    ]


def test_the_first_of_many_is_told_too() -> None:
    without = DEMO.partition("[[prices]]")[0]
    assert told(DEMO, without) == ["prices.demo added"]
    assert told(without, DEMO) == ["prices.demo removed"]
