import pytest

from policies.pricing import Price
from policies.quota import Limit, Per, Scope, Unit
from proxy.catalog import Catalog
from proxy.settings.loading import parse

CONFIG = """
auth.issuers = [{ issuer = "i", key_file = "i.pem" }]

[[models]]
name = "big"
aliases = ["gpt-4o", "large"]
context_tokens = 1000
min_completion = 10
endpoints = ["chat"]
extra_fields = ["guided_json"]
cache_scope = "user"
replicas = [{ name = "r", url = "http://r" }]

[[models]]
name = "small"
context_tokens = 500
replicas = [{ name = "s", url = "http://s" }]

[plans.pro]
limits = [
    { scope = "user", unit = "tokens", amount = 5, per = "day" },
    { scope = "tenant", unit = "concurrent", amount = 2 },
]

[plans.free]
lane = "batch"
models = ["small"]

[tenants.acme]
plans = ["pro", "free"]

[tenants.globex]
plans = ["free"]

[[prices]]
model = "big"
version = "7"
currency = "EUR"
prompt = 3
cached = 2
completion = 1
"""


@pytest.fixture
def catalog() -> Catalog:
    return Catalog.of(parse(CONFIG, {}))


def test_a_model_answers_to_its_name_and_its_aliases(catalog: Catalog) -> None:
    big = catalog.model("big")
    assert big is not None
    assert big is catalog.model("gpt-4o") is catalog.model("large")
    assert (big.context_tokens, big.default_completion, big.min_completion, big.template_tokens) == (1000, 4096, 10, 64)
    assert (big.endpoints, big.extra_fields, big.cache_scope) == (
        frozenset({"chat"}),
        frozenset({"guided_json"}),
        "user",
    )
    assert catalog.model("Big") is None


def test_a_tenant_without_a_claim_has_its_first_plan(catalog: Catalog) -> None:
    for tenant, claim, plan in [
        ("acme", None, "pro"),
        ("acme", "free", "free"),
        ("globex", None, "free"),
        ("globex", "free", "free"),
    ]:
        found = catalog.plan(tenant, claim)
        assert found is not None
        assert found.name == plan


@pytest.mark.parametrize(("tenant", "claim"), [("globex", "pro"), ("acme", "PRO"), ("acme", ""), ("nobody", None)])
def test_nobody_gets_a_plan_he_was_not_given(catalog: Catalog, tenant: str, claim: str | None) -> None:
    assert catalog.plan(tenant, claim) is None


def test_a_plan_has_its_limits_in_order_and_its_lane(catalog: Catalog) -> None:
    pro, free = catalog.plan("acme"), catalog.plan("globex")
    assert pro is not None
    assert free is not None
    assert pro.limits == (
        Limit(Scope.USER, Unit.TOKENS, 5, Per.DAY),
        Limit(Scope.TENANT, Unit.CONCURRENT, 2, None),
    )
    assert (pro.lane, free.lane, free.limits) == ("interactive", "batch", ())


def test_a_plan_allows_its_models_only(catalog: Catalog) -> None:
    pro, free, big = catalog.plan("acme"), catalog.plan("globex"), catalog.model("gpt-4o")
    assert pro is not None
    assert free is not None
    assert big is not None
    assert pro.allows(big)
    assert not free.allows(big)
    assert [model.name for model in catalog.models_for(pro)] == ["big", "small"]
    assert [model.name for model in catalog.models_for(free)] == ["small"]


def test_a_model_may_have_a_price(catalog: Catalog) -> None:
    big, small = catalog.model("gpt-4o"), catalog.model("small")
    assert big is not None
    assert small is not None
    assert catalog.price(big) == Price(version="7", currency="EUR", prompt=3, cached=2, completion=1)
    assert catalog.price(small) is None


def test_tenants_are_found_by_name(catalog: Catalog) -> None:
    acme = catalog.tenant("acme")
    assert acme is not None
    assert (acme.name, list(acme.plans), acme.default_plan.name) == ("acme", ["pro", "free"], "pro")
    assert catalog.tenant("nobody") is None
