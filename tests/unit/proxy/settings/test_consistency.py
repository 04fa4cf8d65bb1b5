from collections.abc import Callable

Faults = Callable[..., dict[str, str]]

TWO_MODELS = (
    'models = [{ name = "m",',
    'models = [{ name = "n", context_tokens = 1, replicas = [{ name = "q", url = "http://q" }] }, { name = "m",',
)


def test_the_minimal_config_is_sound(faults: Faults) -> None:
    assert faults() == {}
    assert faults(TWO_MODELS) == {}


def test_a_model_name_is_given_once(faults: Faults) -> None:
    assert faults(TWO_MODELS, ('"n"', '"m"')) == {"models[1].name": "'m' is taken by models[0].name"}


def test_an_alias_takes_no_other_models_name(faults: Faults) -> None:
    found = faults(TWO_MODELS, ("context_tokens = 1,", 'context_tokens = 1, aliases = ["m"],'))
    assert found == {"models[0].aliases[0]": "'m' is taken by models[1].name"}


def test_a_replica_name_is_given_once_over_all_models(faults: Faults) -> None:
    assert faults(TWO_MODELS, ('"q"', '"r"')) == {
        "models[1].replicas[0].name": "'r' is taken by models[0].replicas[0].name"
    }


def test_one_address_is_one_replica(faults: Faults) -> None:
    found = faults(('url = "http://r:8000" }', 'url = "http://r:8000" }, { name = "s", url = "http://r:8000/" }'))
    assert found == {"models[0].replicas[1].url": "this address is taken by models[0].replicas[0].url"}


def test_a_replica_is_launched_or_has_an_address(faults: Faults) -> None:
    no_url = (', url = "http://r:8000"', "")
    assert "is missing" in faults(no_url)["models[0].replicas[0].url"]
    assert faults(no_url, ('"m",', '"m", launch = { engine = "sim" },')) == {}


def test_a_launched_replica_is_on_this_machine(faults: Faults) -> None:
    launch = ('"m",', '"m", launch = { engine = "sim" },')
    assert "launches this replica itself" in faults(launch)["models[0].replicas[0].url"]
    assert faults(launch, ("http://r:8000", "http://127.0.0.1:8000")) == {}


def test_a_plan_names_known_models(faults: Faults) -> None:
    assert faults(("plans.p = {}", 'plans.p.models = ["m", "*", "x"]')) == {
        "plans.p.models[2]": "no model is named 'x'"
    }


def test_a_plan_has_one_limit_of_a_kind(faults: Faults) -> None:
    limits = """plans.p.limits = [
        { scope = "user", unit = "concurrent", amount = 1 },
        { scope = "tenant", unit = "concurrent", amount = 1 },
        { scope = "user", unit = "concurrent", amount = 2 },
    ]"""
    assert faults(("plans.p = {}", limits)) == {"plans.p.limits[2]": "user-concurrent is taken by plans.p.limits[0]"}


def test_a_tenant_names_known_plans_once(faults: Faults) -> None:
    assert faults(('plans = ["p"]', 'plans = ["p", "x", "p"]')) == {
        "tenants.t.plans[1]": "no plan is named 'x'",
        "tenants.t.plans[2]": "'p' is taken by tenants.t.plans[0]",
    }


def test_a_price_is_for_a_known_model_and_the_only_one(faults: Faults) -> None:
    price = '[[prices]]\nmodel = "{}"\nversion = "1"\nprompt = 1\ncached = 1\ncompletion = 1\n'
    assert faults(more=price.format("m")) == {}
    assert faults(more=price.format("x")) == {"prices[0].model": "no model is named 'x'"}
    assert faults(more=price.format("m") * 2) == {"prices[1].model": "the price of 'm' is taken by prices[0].model"}


def test_an_issuer_stands_once_and_one_is_for_development(faults: Faults) -> None:
    twice = '{ issuer = "i", key_file = "i.pem" }'
    assert faults((twice, f"{twice}, {twice}")) == {"auth.issuers[1].issuer": "'i' is taken by auth.issuers[0].issuer"}
    development = '{{ issuer = "{}", algorithms = ["HS256"], development = true }}'
    assert faults((twice, f"{development.format('a')}, {development.format('b')}")) == {
        "auth.issuers[1].development": "the one development issuer is taken by auth.issuers[0].development"
    }


def test_the_listeners_have_ports_of_their_own(faults: Faults) -> None:
    assert faults(more="listen.port = 9090") == {"admin.port": "is taken by listen.port"}
    assert faults(more="listen.port = 9090\nadmin.port = 9091") == {}
    assert faults(more="listen.port = 0\nadmin.port = 0") == {}


def test_a_bad_value_hides_no_contradiction(faults: Faults) -> None:
    found = faults(("context_tokens = 1000", 'context_tokens = "many"'), ('plans = ["p"]', 'plans = ["x"]'))
    assert set(found) == {"models[0].context_tokens", "tenants.t.plans[0]"}
