"""What of a config comes into force while the gateway runs, and what is named as waiting."""

import pytest

from proxy.settings import ConfigError, Settings
from proxy.settings.loading import parse
from proxy.settings.reloading import RELOADED, Reloadable, reloadable

CONFIG = """
[[auth.issuers]]
issuer = "dev"
algorithms = ["HS256"]
development = true

[[models]]
name = "here"
context_tokens = 1000
launch = { engine = "sim" }
replicas = [{ name = "here-0" }, { name = "here-1", url = "http://127.0.0.1:8001" }]

[[models]]
name = "there"
context_tokens = 1000
replicas = [{ name = "there-0", url = "http://there" }]

[plans.all]
[tenants.acme]
plans = ["all"]
"""


def taken(*replaced: tuple[str, str], more: str = "") -> Reloadable:
    text = CONFIG
    for old, new in replaced:
        assert old in text
        text = text.replace(old, new, 1)
    return reloadable(parse(CONFIG, {}), parse(text + more, {}))


def test_plans_tenants_prices_limits_issuers_and_replicas_come_into_force() -> None:
    plan = taken(
        ('issuer = "dev"', 'issuer = "dev"\naudience = "us"'),
        ("[plans.all]", "[plans.some]"),
        ('plans = ["all"]', 'plans = ["some"]'),
        ('{ name = "there-0", url = "http://there" }', '{ name = "there-1", url = "http://else" }'),
        ("context_tokens = 1000\nreplicas", "context_tokens = 2000\nreplicas"),
        more='[[prices]]\nmodel = "here"\nversion = "1"\nprompt = 1\ncached = 1\ncompletion = 1\n[limits]\nn_max = 2',
    )
    assert plan.needs_restart == ()
    assert plan.settings.limits.n_max == 2
    assert [str(change) for change in plan.changed] == [
        "auth.issuers.dev.audience changed",
        "models.there.context_tokens changed",
        "models.there.replicas.there-0 removed",
        "models.there.replicas.there-1 added",
        "plans.all removed",
        "plans.some added",
        "tenants.acme.plans changed",
        "prices.here added",
        "limits.n_max changed",
    ]


@pytest.mark.parametrize("section", sorted(Settings.model_fields.keys() - RELOADED))
def test_every_other_section_waits(section: str) -> None:
    changed = {
        "listen": "port = 1",
        "admin": "port = 1",
        "redis": 'data_dir = "elsewhere"',
        "routing": 'cache_secret_file = "secret"',
        "ledger": "progress_s = 0.5",
    }[section]
    plan = taken(more=f"[{section}]\n{changed}")
    assert [change.path for change in plan.needs_restart] == [f"{section}.{changed.split()[0]}"]
    assert plan.changed == ()
    assert getattr(plan.settings, section) == getattr(parse(CONFIG, {}), section)


def test_a_process_that_runs_keeps_the_command_line_that_it_has() -> None:
    plan = taken(
        ('launch = { engine = "sim" }', 'launch = { engine = "sim", args = ["--seed", "1"] }'),
        ("context_tokens = 1000", "context_tokens = 2000"),
        (":8001", ":8002"),
        ('{ name = "here-0" }', '{ name = "here-0", sequences = 3 }, { name = "here-2" }'),
    )
    assert [str(change) for change in plan.needs_restart] == [
        "models.here.context_tokens changed",
        "models.here.launch.args changed",
        "models.here.replicas.here-1.url changed",
    ]
    assert [str(change) for change in plan.changed] == [
        "models.here.replicas.here-0.sequences changed",
        "models.here.replicas.here-2 added",
    ]


def test_a_model_that_is_new_is_launched_as_it_says() -> None:
    more = '[[models]]\nname = "new"\ncontext_tokens = 5\nlaunch = { engine = "sim" }\nreplicas = [{ name = "new-0" }]'
    plan = taken(more=more)
    assert ([str(change) for change in plan.changed], plan.needs_restart) == (["models.new added"], ())


def test_what_waits_must_not_contradict_what_does_not() -> None:
    with pytest.raises(ConfigError) as caught:
        taken(
            ("context_tokens = 1000\nreplicas", 'context_tokens = 1000\nlaunch = { engine = "sim" }\nreplicas'),
            ('{ name = "there-0", url = "http://there" }', '{ name = "there-1" }'),
        )
    assert [str(fault) for fault in caught.value.faults] == [
        "models[1].replicas[0].url: is missing, and models[1] has no launch table to start it by",
        "models.there.launch: needs a restart",
    ]
