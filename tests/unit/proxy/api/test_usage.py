"""Usage over HTTP: OpenAI's shape, each caller its own rows, and every page a part of what `tollway usage` tells."""

from collections import Counter
from itertools import chain
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.api import reports as pacing
from proxy.billing.entry import CORRECTION, FINAL
from proxy.billing.query import Period, UsageQuery, answer
from proxy.billing.record import ExchangeRecord
from tests.records import RECORD
from tests.unit.proxy.gateway import Gateway
from tests.unit.proxy.memory_rows import MemoryRows

COMPLETIONS, EMBEDDINGS = "/v1/organization/usage/completions", "/v1/organization/usage/embeddings"
Asked = dict[str, Any]
DAY_S = 86_400
BEGIN_S = 1_793_491_200 - 1000
"""A while before a midnight and a month's end."""
SUMS = {
    "num_model_requests": "requests",
    "input_tokens": "prompt_tokens",
    "input_cached_tokens": "cached_tokens",
    "output_tokens": "completion_tokens",
}


@pytest.fixture(autouse=True)
def _unpaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "ROW_S", 0)


def bearer(gw: Gateway, *scopes: str, tenant: str = "acme", user: str = "ada") -> dict[str, str]:
    return {"authorization": f"Bearer {gw.token(tenant=tenant, user=user, scopes=scopes)}"}


async def results(
    client: httpx.AsyncClient, headers: dict[str, str], asked: Asked | None = None, *, path: str = COMPLETIONS
) -> list[dict[str, Any]]:
    """Return the results of all pages; check what every page must be."""
    params: Asked = {"start_time": BEGIN_S, "end_time": BEGIN_S + 3 * DAY_S} | (asked or {})
    found: list[dict[str, Any]] = []
    begin = BEGIN_S
    while True:
        answered = await client.get(path, params=params, headers=headers)
        assert answered.status_code == 200, answered.text
        page = answered.json()
        assert page["object"] == "page"
        for bucket in page["data"]:
            assert (bucket["object"], bucket["start_time"]) == ("bucket", begin)
            begin = bucket["end_time"]
            found += bucket["results"]
        assert page["has_more"] is (page["next_page"] is not None)
        if not page["has_more"]:
            assert begin == params["end_time"]
            return found
        params["page"] = page["next_page"]


def names(found: list[dict[str, Any]], name: str) -> set[str]:
    return {result[name] for result in found}


@pytest.fixture
def two_tenants(rows: MemoryRows) -> MemoryRows:
    for tenant in ("acme", "globex"):
        for user in ("ada", "bob"):
            rows.write(RECORD._replace(tenant=tenant, user=user), BEGIN_S * 1_000_000)
    return rows


async def test_a_result_is_openais_with_null_for_what_it_is_not_grouped_by(
    public: httpx.AsyncClient, gw: Gateway, rows: MemoryRows
) -> None:
    rows.write(RECORD, BEGIN_S * 1_000_000)
    params: dict[str, Any] = {"start_time": BEGIN_S, "end_time": BEGIN_S + 2 * DAY_S, "group_by[]": "model"}
    answered = await public.get(COMPLETIONS, params=params, headers=bearer(gw, "usage:read"))
    assert answered.json() == {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": BEGIN_S,
                "end_time": BEGIN_S + 1000,
                "results": [
                    {
                        "object": "organization.usage.completions.result",
                        "input_tokens": 120,
                        "input_cached_tokens": 32,
                        "output_tokens": 11,
                        "num_model_requests": 1,
                        "project_id": None,
                        "user_id": None,
                        "api_key_id": None,
                        "model": "demo",
                    }
                ],
            },
            {"object": "bucket", "start_time": BEGIN_S + 1000, "end_time": BEGIN_S + 1000 + DAY_S, "results": []},
            {"object": "bucket", "start_time": BEGIN_S + 1000 + DAY_S, "end_time": BEGIN_S + 2 * DAY_S, "results": []},
        ],
        "has_more": False,
        "next_page": None,
        "unreadable_rows": 0,
    }


async def test_embeddings_have_a_path_of_their_own(public: httpx.AsyncClient, gw: Gateway, rows: MemoryRows) -> None:
    for endpoint in ("chat", "completions", "embeddings", "of a later version"):
        rows.write(RECORD._replace(endpoint=endpoint), BEGIN_S * 1_000_000)
    [completions] = await results(public, bearer(gw, "usage:read"))
    [embeddings] = await results(public, bearer(gw, "usage:read"), path=EMBEDDINGS)
    assert (completions["num_model_requests"], embeddings["num_model_requests"]) == (3, 1)
    assert embeddings["object"] == "organization.usage.embeddings.result"
    assert "output_tokens" not in embeddings


@pytest.mark.parametrize(
    ("scopes", "tenants", "users"),
    [
        (("usage:self",), {"acme"}, {"ada"}),
        (("usage:read",), {"acme"}, {"ada", "bob"}),
        (("usage:all",), {"acme", "globex"}, {"ada", "bob"}),
        (("usage:self", "usage:read"), {"acme"}, {"ada", "bob"}),
        (("usage:self", "usage:read", "usage:all"), {"acme", "globex"}, {"ada", "bob"}),
    ],
)
async def test_a_scope_reads_its_own_rows_and_no_others(
    public: httpx.AsyncClient,
    gw: Gateway,
    two_tenants: MemoryRows,
    *,
    scopes: tuple[str, ...],
    tenants: set[str],
    users: set[str],
) -> None:
    found = await results(public, bearer(gw, *scopes), {"group_by[]": ["project_id", "user_id"]})
    assert (names(found, "project_id"), names(found, "user_id")) == (tenants, users)
    [whole] = await results(public, bearer(gw, *scopes))
    assert whole["num_model_requests"] == len(tenants) * len(users) == len(found)


@pytest.mark.parametrize("scopes", [(), ("usage:write",), ("usage",)])
async def test_without_a_scope_nothing_is_read(
    public: httpx.AsyncClient, gw: Gateway, rows: MemoryRows, scopes: tuple[str, ...]
) -> None:
    answered = await public.get(COMPLETIONS, params={"start_time": BEGIN_S}, headers=bearer(gw, *scopes))
    assert (answered.status_code, answered.json()["error"]["code"]) == (403, "permission_denied")
    assert (await public.get(COMPLETIONS)).status_code == 401
    assert rows.asked == []


@pytest.mark.parametrize(
    ("scope", "asked", "param"),
    [
        ("usage:read", {"project_ids": "globex"}, "project_ids"),
        ("usage:read", {"project_ids[]": ["acme", "globex"]}, "project_ids"),
        ("usage:self", {"project_ids": "globex"}, "project_ids"),
        ("usage:self", {"user_ids[]": "bob"}, "user_ids"),
        ("usage:self", {"user_ids[]": ["ada", "bob"]}, "user_ids"),
    ],
)
async def test_who_asks_for_others_by_name_is_refused_and_reads_nothing(
    public: httpx.AsyncClient, gw: Gateway, rows: MemoryRows, *, scope: str, asked: dict[str, Any], param: str
) -> None:
    params = {"start_time": BEGIN_S} | asked
    answered = await public.get(COMPLETIONS, params=params, headers=bearer(gw, scope))
    assert (answered.status_code, answered.json()["error"]["param"]) == (403, param)
    assert rows.asked == []


async def test_filters_are_heard_within_what_may_be_read(
    public: httpx.AsyncClient, gw: Gateway, two_tenants: MemoryRows
) -> None:
    grouped = {"group_by[]": ["project_id", "user_id"]}
    found = await results(public, bearer(gw, "usage:all"), grouped | {"project_ids": "globex", "user_ids": "bob"})
    assert [(result["project_id"], result["user_id"]) for result in found] == [("globex", "bob")]
    found = await results(public, bearer(gw, "usage:read"), grouped | {"user_ids": "bob", "project_ids": "acme"})
    assert [(result["project_id"], result["user_id"]) for result in found] == [("acme", "bob")]
    assert await results(public, bearer(gw, "usage:read"), {"models": "other"}) == []


async def test_what_is_wrong_is_told_in_the_envelope(public: httpx.AsyncClient, gw: Gateway) -> None:
    answered = await public.get(f"{COMPLETIONS}?start_time=1&batch=true", headers=bearer(gw, "usage:read"))
    assert (answered.status_code, answered.headers["content-type"]) == (400, "application/json")
    error = answered.json()["error"]
    assert (error["code"], error["param"], error["type"]) == ("invalid_request", "batch", "invalid_request_error")


async def test_a_row_that_cannot_be_read_is_told_and_logged(
    public: httpx.AsyncClient, gw: Gateway, rows: MemoryRows, caplog: pytest.LogCaptureFixture
) -> None:
    rows.write(RECORD, BEGIN_S * 1_000_000)
    rows.spoil(BEGIN_S * 1_000_000)
    rows.spoil((BEGIN_S + DAY_S) * 1_000_000)
    params = {"start_time": BEGIN_S, "end_time": BEGIN_S + 3 * DAY_S}
    page = (await public.get(COMPLETIONS, params=params, headers=bearer(gw, "usage:read"))).json()
    assert page["unreadable_rows"] == 2
    assert [line.message for line in caplog.records] == ["ledger_unreadable"]


READABLE: dict[str, dict[str, set[str]]] = {
    "usage:all": {},
    "usage:read": {"tenant": {"acme"}},
    "usage:self": {"tenant": {"acme"}, "user": {"ada"}},
}
RECORDS = st.builds(
    lambda tenant, user, model, endpoint, currency, counts: RECORD._replace(
        tenant=tenant,
        user=user,
        model=model,
        endpoint=endpoint,
        currency=currency,
        prompt_tokens=counts[0],
        cached_tokens=counts[1],
        completion_tokens=counts[2],
    ),
    st.sampled_from(("acme", "globex")),
    st.sampled_from(("ada", "bob", "é|:%")),
    st.sampled_from(("demo", "other")),
    st.sampled_from(("chat", "completions", "embeddings")),
    st.sampled_from(("USD", "EUR", "")),
    st.tuples(*3 * [st.integers(-(10**6), 10**9)]),
)
LEDGERS = st.lists(
    st.tuples(RECORDS, st.integers(-5000, 3 * DAY_S * 1000 + 5000), st.sampled_from((FINAL, FINAL, CORRECTION))),
    max_size=25,
)


@given(
    ledger=LEDGERS,
    grouped=st.lists(st.sampled_from(("project_id", "user_id", "model")), unique=True),
    width=st.sampled_from((("1h", 168), ("1h", 7), ("1d", 2), ("1d", 31))),
    scope=st.sampled_from(("usage:all", "usage:read", "usage:self")),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
async def test_every_grouping_in_every_page_adds_up_to_what_the_command_line_tells(
    public: httpx.AsyncClient,
    gw: Gateway,
    rows: MemoryRows,
    *,
    ledger: list[tuple[ExchangeRecord, int, str]],
    grouped: list[str],
    width: tuple[str, int],
    scope: str,
) -> None:
    rows.rows.clear()
    for record, after_ms, kind in ledger:
        rows.write(record, (BEGIN_S * 1000 + after_ms) * 1000, kind)
    asked = {"group_by[]": grouped, "bucket_width": width[0], "limit": width[1]}
    found = [await results(public, bearer(gw, scope), asked, path=path) for path in (COMPLETIONS, EMBEDDINGS)]
    told = Counter[str]()
    for result in chain(*found):
        told.update({ours: result.get(theirs, 0) for theirs, ours in SUMS.items()})

    async def command_line(name: str, without: dict[str, set[str]]) -> int:
        period = Period(BEGIN_S * 1_000_000, (BEGIN_S + 3 * DAY_S) * 1_000_000)
        report = await answer(UsageQuery(period=period, only=READABLE[scope], without=without), rows)
        return sum(getattr(total.sums, name) for total in report.totals())

    for name in ("requests", "prompt_tokens"):
        assert told[name] == await command_line(name, {})
    for name in ("cached_tokens", "completion_tokens"):
        assert told[name] == await command_line(name, {"endpoint": {"embeddings"}})
