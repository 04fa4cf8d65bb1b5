import orjson
import pytest

from proxy import versions
from proxy.billing.record import (
    CLIENT_CLOSED,
    COUNTED,
    OK,
    SHUTDOWN,
    ExchangeRecord,
    Source,
    correction,
    read,
    written,
)
from proxy.errors import Code
from tests.records import RECORD

# Columns of the ledger and the archive. Who changes them raises the version.
COLUMNS = {
    2: "prompt_tokens cached_tokens completion_tokens charge_micros wasted_tokens request_id incarnation tenant user "
    "plan lane model replica group endpoint n started_at finished_at source outcome stream queue_ms ttft_ms "
    "price_version currency attempts",
    3: "prompt_tokens cached_tokens completion_tokens charge_picos wasted_tokens reasoning_tokens request_id "
    "incarnation tenant user plan lane model replica group endpoint n started_at finished_at source outcome stream "
    "queue_ms ttft_ms price_version currency attempts client_request_id",
}


def test_a_version_of_the_record_has_its_columns() -> None:
    assert " ".join(ExchangeRecord._fields) == COLUMNS[versions.WRITTEN]


def test_a_record_never_changes() -> None:
    with pytest.raises(AttributeError):
        RECORD.charge_picos = 0  # type: ignore[misc]


@pytest.mark.parametrize(
    "record",
    [RECORD, RECORD._replace(ttft_ms=None, stream=False, user="", source=Source.RECOVERED, charge_picos=2**60)],
)
def test_a_record_survives_as_text(record: ExchangeRecord) -> None:
    assert read(written(record)) == record
    assert b"\n" not in written(record._replace(user="a\nb"))


def test_what_is_counted_comes_first() -> None:
    assert ExchangeRecord._fields[: len(COUNTED)] == COUNTED


def test_a_field_of_a_later_version_is_passed_over() -> None:
    assert read(orjson.dumps([*orjson.loads(written(RECORD)), "later"])) == RECORD


MICROS = b"""[2,120,32,11,777,0,"01JD0000000000000000000000","01JC0000000000000000000000","acme","ada","pro",
"interactive","demo","demo-0","","chat",1,1000000,3000000,"engine","ok",true,40,500,"2026-11","USD",1]"""
"""The record as version 2 wrote it."""


def test_what_was_charged_in_millionths_is_read_as_what_it_was() -> None:
    assert read(MICROS) == RECORD
    assert read(MICROS[:-1] + b',"later"]') == RECORD


@pytest.mark.parametrize("wrong", [MICROS.replace(b"777", b"true"), MICROS.replace(b"777", b'"7"'), MICROS[:-3] + b"]"])
def test_a_wrong_record_of_the_version_before_is_a_value_error(wrong: bytes) -> None:
    with pytest.raises(ValueError):
        read(wrong)


def test_another_version_a_short_and_a_wrong_record_are_value_errors() -> None:
    values = orjson.loads(written(RECORD))
    wrong: tuple[object, ...] = (
        [*values[:1], "many", *values[2:]],
        [versions.WRITTEN + 1, *values[1:]],
        values[:-1],
        [],
        {},
        7,
    )
    for each in wrong:
        with pytest.raises(ValueError):
            read(orjson.dumps(each))


def test_a_correction_adds_up_to_the_truth() -> None:
    billed = RECORD._replace(completion_tokens=4, charge_picos=1_000_000_000, source=Source.RECOVERED)
    row = correction(RECORD, billed)
    assert (row.completion_tokens, row.charge_picos, row.prompt_tokens) == (7, -223_000_000, 0)
    assert row[len(COUNTED) :] == RECORD[len(COUNTED) :]


def test_an_outcome_that_is_no_error_is_no_code() -> None:
    assert not {OK, CLIENT_CLOSED, SHUTDOWN} & {code.value for code in Code}
