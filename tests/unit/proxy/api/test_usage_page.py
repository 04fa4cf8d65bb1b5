"""What a page of usage is asked by."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.api.usage_page import UsagePage
from proxy.billing.query import Period
from proxy.errors import InvalidRequest

NOW_S = 1_793_500_000
START_S = 1_793_400_000


def asked(**parameters: Any) -> UsagePage:
    query = urlencode({"start_time": START_S} | parameters, doseq=True)
    return UsagePage.of(query.encode(), NOW_S)


def test_what_is_not_asked_has_openais_defaults_and_ends_now() -> None:
    page = asked()
    assert page.period == Period(START_S * 1_000_000, NOW_S * 1_000_000)
    assert (page.width.s, page.limit, page.group_by, page.only) == (86_400, 7, (), {})


@pytest.mark.parametrize(("width", "seconds", "limit", "most"), [("1m", 60, 60, 1440), ("1h", 3600, 24, 168)])
def test_a_width_has_its_own_limits(width: str, seconds: int, limit: int, most: int) -> None:
    assert (asked(bucket_width=width).width.s, asked(bucket_width=width).limit) == (seconds, limit)
    assert asked(bucket_width=width, limit=most).limit == most
    with pytest.raises(InvalidRequest) as refused:
        asked(bucket_width=width, limit=most + 1)
    assert refused.value.param == "limit"


def test_lists_are_read_with_brackets_and_without() -> None:
    page = asked(**{"group_by[]": ["project_id", "model"], "group_by": ["model", "user_id"], "models[]": ["a b", "c"]})
    assert page.group_by == ("tenant", "model", "user")
    assert page.only == {"model": {"a b", "c"}}
    page = asked(project_ids="é|:%", user_ids=["ada", "ada"])
    assert page.only == {"tenant": {"é|:%"}, "user": {"ada"}}


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"start_time": ""}, "start_time"),
        ({"start_time": "1.5"}, "start_time"),
        ({"start_time": "-1"}, "start_time"),
        ({"start_time": "\u0661"}, "start_time"),
        ({"start_time": "1" * 11}, "start_time"),
        ({"start_time": NOW_S}, "start_time"),
        ({"end_time": START_S}, "start_time"),
        ({"end_time": "now"}, "end_time"),
        ({"bucket_width": "1w"}, "bucket_width"),
        ({"limit": 0}, "limit"),
        ({"limit": 32}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": [1, 2]}, "limit"),
        ({"group_by": "batch"}, "group_by"),
        ({"group_by": ""}, "group_by"),
        ({"page": "2"}, "page"),
        ({"page": f"{START_S - 1}_{NOW_S}"}, "page"),
        ({"page": f"{NOW_S}_{NOW_S}"}, "page"),
        ({"page": f"{START_S}_{NOW_S}", "end_time": NOW_S - 1}, "page"),
        ({"batch": "true"}, "batch"),
        ({"api_key_ids[]": "k"}, "api_key_ids[]"),
        ({"limit[]": "1"}, "limit[]"),
        ({"Limit": "1"}, "Limit"),
        ({"": "1"}, None),
        ({"<script>": "1"}, None),
        ({"a" * 65: "1"}, None),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(parameters: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        asked(**parameters)
    assert refused.value.param == param


def test_a_start_is_asked_for() -> None:
    with pytest.raises(InvalidRequest, match="`start_time` is missing"):
        UsagePage.of(b"limit=1", NOW_S)


@pytest.mark.parametrize("query", [b"start_time=1&models=%ff", b"start_time=\xff", b"&".join([b"models=a"] * 257)])
def test_what_is_no_text_or_too_much_of_it_is_refused(query: bytes) -> None:
    with pytest.raises(InvalidRequest, match="256 parameters"):
        UsagePage.of(query, NOW_S)


@given(st.binary(max_size=60))
def test_no_query_does_anything_else_than_be_understood_or_refused(query: bytes) -> None:
    with suppress(InvalidRequest):
        assert UsagePage.of(query, NOW_S).period.to_us == NOW_S * 1_000_000


def test_a_next_page_keeps_the_end_of_the_first() -> None:
    first = asked(bucket_width="1h")
    later = UsagePage.of(f"start_time={START_S}&page={first.cursor((START_S + 3600) * 1_000_000)}".encode(), NOW_S + 99)
    assert later.period == Period((START_S + 3600) * 1_000_000, NOW_S * 1_000_000)
