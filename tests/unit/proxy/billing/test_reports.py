"""Sums of the ledger."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from proxy.billing.entry import Entry
from proxy.billing.record import ExchangeRecord
from proxy.billing.reports import GROUPS, Report, UsageRow, UsageSums
from tests.records import RECORD

COUNTS = st.integers(0, 10**12)


def final(record: ExchangeRecord) -> Entry:
    return Entry("1-0", "FINAL", record)


def report_of(*entries: Entry, group_by: tuple[str, ...] = GROUPS) -> Report:
    report = Report(group_by)
    for entry in entries:
        report.add(entry)
    return report


def test_one_exchange_is_one_row() -> None:
    [row] = report_of(final(RECORD)).rows()
    sums = UsageSums(requests=1, prompt_tokens=120, cached_tokens=32, completion_tokens=11, charge_picos=777_000_000)
    assert row == UsageRow(("acme", "ada", "demo"), "USD", sums)


def test_rows_of_a_group_add_up_and_stand_in_order() -> None:
    entries = [
        final(RECORD._replace(tenant=tenant, user=user))
        for tenant, user in product(("globex", "acme"), ("bob", "ada", "bob"))
    ]
    rows = list(report_of(*entries, group_by=("tenant", "user")).rows())
    assert [(row.names, row.sums.requests) for row in rows] == [
        (("acme", "ada"), 1),
        (("acme", "bob"), 2),
        (("globex", "ada"), 1),
        (("globex", "bob"), 2),
    ]


def test_the_order_of_the_grouping_is_the_order_of_the_names() -> None:
    [row] = report_of(final(RECORD), group_by=("model", "tenant")).rows()
    assert row.names == ("demo", "acme")


def test_a_correction_adds_its_difference_and_no_request() -> None:
    difference = RECORD._replace(prompt_tokens=0, cached_tokens=0, completion_tokens=-4, charge_picos=-77_000_000)
    [row] = report_of(final(RECORD), Entry("2-0", "CORRECTION", difference)).rows()
    assert (row.sums.requests, row.sums.completion_tokens, row.sums.charge_picos) == (1, 7, 700_000_000)


def test_money_of_two_currencies_is_never_added() -> None:
    report = report_of(final(RECORD), final(RECORD._replace(currency="EUR")), group_by=("tenant",))
    assert [(row.currency, row.sums.charge_picos) for row in report.rows()] == [
        ("EUR", 777_000_000),
        ("USD", 777_000_000),
    ]
    assert [(row.currency, row.sums.charge_picos) for row in report.totals()] == [
        ("EUR", 777_000_000),
        ("USD", 777_000_000),
    ]


def test_nothing_read_is_no_rows() -> None:
    assert list(Report().rows()) == list(Report().totals()) == []


@given(
    used=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), COUNTS, COUNTS), max_size=30),
    group_by=st.permutations(GROUPS).flatmap(lambda names: st.integers(1, 3).map(lambda n: tuple(names[:n]))),
)
def test_rows_always_add_up_to_the_totals(used: list[tuple[str, str, int, int]], group_by: tuple[str, ...]) -> None:
    entries = [
        final(RECORD._replace(tenant=tenant, user=user, prompt_tokens=prompt, charge_picos=charge))
        for tenant, user, prompt, charge in used
    ]
    report = report_of(*entries, group_by=group_by)
    rows = list(report.rows())
    assert sum(row.sums.prompt_tokens for row in rows) == sum(prompt for _, _, prompt, _ in used)
    assert sum(row.sums.charge_picos for row in rows) == sum(row.sums.charge_picos for row in report.totals())
    assert sum(row.sums.requests for row in rows) == len(used)
