"""What is asked of the bill, and what answers it."""

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.query import Period, UsageQuery, answer
from proxy.billing.record import ExchangeRecord
from proxy.billing.reports import DIMENSIONS, Report
from tests.records import RECORD
from tests.unit.proxy.memory_rows import MemoryRows

ALWAYS = Period(0, 10_000_000)


def kept(*records: ExchangeRecord | None) -> MemoryRows:
    """Return rows a millisecond apart; None is one that nobody can read."""
    rows = MemoryRows()
    for number, record in enumerate(records):
        rows.spoil(number * 1000) if record is None else rows.write(record, number * 1000)
    return rows


def counted(report: Report) -> dict[tuple[str, ...], int]:
    return {row.names: row.sums.requests for row in report.rows()}


@pytest.mark.parametrize(("from_us", "to_us"), [(5, 5), (6, 5), (-1, 5)])
def test_a_period_has_something_in_it(from_us: int, to_us: int) -> None:
    with pytest.raises(ValueError, match="before its end"):
        Period(from_us, to_us)


@given(
    begin=st.integers(0, 10**13),
    length=st.integers(1, 10**10),
    width=st.sampled_from([60, 3600, 86_400]).map(lambda seconds: seconds * 1_000_000),
)
def test_buckets_are_the_whole_period_in_order_and_end_by_the_clock(begin: int, length: int, width: int) -> None:
    whole = Period(begin, begin + length)
    parts = list(whole.buckets(width))
    assert [part.from_us for part in parts] == [begin, *(part.to_us for part in parts[:-1])]
    assert parts[-1].to_us == whole.to_us
    assert all(part.to_us % width == 0 for part in parts[:-1])
    assert all(part.to_us - part.from_us <= width for part in parts)


@pytest.mark.parametrize(
    "query",
    [
        {"group_by": ("tenant", "request_id")},
        {"group_by": ("tenant", "tenant")},
        {"only": {"colour": ("red",)}},
        {"without": {"prompt_tokens": ("1",)}},
    ],
)
def test_what_is_no_dimension_is_refused(query: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="at most once"):
        UsageQuery(period=ALWAYS, **query)  # type: ignore[arg-type]


def test_every_dimension_is_text_in_a_record() -> None:
    assert all(isinstance(getattr(RECORD, name), str) for name in DIMENSIONS)


@pytest.mark.parametrize("name", DIMENSIONS)
async def test_rows_are_grouped_and_chosen_by_any_dimension(name: str) -> None:
    rows = kept(*(RECORD._replace(**{name: value}) for value in "aba"))  # type: ignore[arg-type]

    async def asked(**chosen: dict[str, Collection[str]]) -> dict[tuple[str, ...], int]:
        return counted(await answer(UsageQuery(period=ALWAYS, group_by=(name,), **chosen), rows))

    assert await asked() == {("a",): 2, ("b",): 1}
    assert await asked(only={name: {"b", "c"}}) == {("b",): 1}
    assert await asked(without={name: {"b", "c"}}) == {("a",): 2}
    assert await asked(only={name: {"b"}}, without={name: {"b"}}) == {}


async def test_only_the_tenants_that_are_asked_for_are_read_in_the_period_alone() -> None:
    rows, period = kept(), Period(3, 4)
    await answer(UsageQuery(period=period), rows)
    await answer(UsageQuery(period=period, only={"tenant": {"acme"}}), rows)
    assert rows.asked == [(None, period), ({"acme"}, period)]


async def test_what_nobody_can_read_is_counted_and_the_first_of_it_told() -> None:
    report = await answer(UsageQuery(period=ALWAYS), kept(RECORD, None, RECORD, None))
    assert (report.unreadable.count, report.unreadable.first) == (2, ("acme", "1-0"))
    assert sum(counted(report).values()) == 2


async def test_who_watches_sees_every_row_and_ends_the_reading() -> None:
    seen: list[int] = []

    def watch(report: Report) -> None:
        seen.append(sum(counted(report).values()))
        if len(seen) == 3:
            raise OverflowError

    with pytest.raises(OverflowError):
        await answer(
            UsageQuery(period=ALWAYS, only={"user": {"ada"}}),
            kept(RECORD, RECORD._replace(user="bob"), RECORD, RECORD),
            watch=watch,
        )
    assert seen == [1, 1, 2]
