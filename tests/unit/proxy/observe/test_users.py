from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, disable_created_metrics, generate_latest

from proxy.observe.definitions import USER_TOKENS
from proxy.observe.users import UserTokens
from tests.records import RECORD

NAMES = st.sampled_from(["acme", 'a"b', "c\\d", "e\nf", "ü", "other"])
TOKENS = st.integers(-5, 2**40)


def exposed(users: UserTokens) -> bytes:
    registry = CollectorRegistry()
    registry.register(users)
    return generate_latest(registry)


def series(users: UserTokens) -> dict[tuple[str, str, str], float]:
    (family,) = users.collect()
    return {(s.labels["tenant"], s.labels["user"], s.labels["kind"]): s.value for s in family.samples}


@given(st.lists(st.tuples(NAMES, NAMES, TOKENS, TOKENS, TOKENS)))
def test_it_reads_as_the_librarys_counter(billed: list[tuple[str, str, int, int, int]]) -> None:
    disable_created_metrics()  # type: ignore[no-untyped-call]
    ours, registry = UserTokens(len(billed)), CollectorRegistry()
    theirs = Counter(USER_TOKENS.name, USER_TOKENS.help, USER_TOKENS.labels, registry=registry)
    for tenant, user, prompt, cached, completion in billed:
        ours.add(
            RECORD._replace(
                tenant=tenant, user=user, prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion
            )
        )
        for kind, number in (("prompt", prompt), ("cached", cached), ("completion", completion)):
            theirs.labels(tenant, user, kind).inc(max(0, number))
    assert sorted(exposed(ours).splitlines()) == sorted(generate_latest(registry).splitlines())


def test_users_beyond_the_cap_stand_together_by_tenant() -> None:
    users = UserTokens(series_max=2)
    for tenant, user in [("acme", "ada"), ("globex", "ada"), ("acme", "bob"), ("acme", "cem"), ("acme", "ada")]:
        users.add(RECORD._replace(tenant=tenant, user=user, prompt_tokens=1, cached_tokens=0, completion_tokens=0))
    prompts = {(tenant, user): value for (tenant, user, kind), value in series(users).items() if kind == "prompt"}
    assert prompts == {("acme", "ada"): 2, ("globex", "ada"): 1, ("acme", "other"): 2}


def test_a_user_has_all_three_kinds_from_its_first_request() -> None:
    users = UserTokens(series_max=1)
    users.add(RECORD._replace(cached_tokens=0, completion_tokens=0))
    assert {kind for _, _, kind in series(users)} == {"prompt", "cached", "completion"}
