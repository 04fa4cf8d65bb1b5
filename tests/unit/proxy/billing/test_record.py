from dataclasses import FrozenInstanceError, fields

import pytest

from proxy.billing.record import CLIENT_CLOSED, OK, SHUTDOWN, VERSION, ExchangeRecord
from proxy.errors import Code
from tests.records import RECORD

# Columns of the ledger and the archive. Who changes them raises VERSION.
COLUMNS = {
    1: "request_id incarnation tenant user plan lane model replica group endpoint n started_at finished_at "
    "prompt_tokens cached_tokens completion_tokens source outcome stream queue_ms ttft_ms price_version charge_micros "
    "currency attempts wasted_tokens version"
}


def test_a_version_of_the_record_has_its_columns() -> None:
    assert " ".join(field.name for field in fields(ExchangeRecord)) == COLUMNS[VERSION]


def test_a_record_never_changes() -> None:
    with pytest.raises(FrozenInstanceError):
        RECORD.charge_micros = 0  # type: ignore[misc]


def test_an_outcome_that_is_no_error_is_no_code() -> None:
    assert not {OK, CLIENT_CLOSED, SHUTDOWN} & {code.value for code in Code}
