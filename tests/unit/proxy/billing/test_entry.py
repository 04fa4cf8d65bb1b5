"""A row of the ledger."""

from proxy.billing.entry import FINAL, Entry
from tests.records import RECORD


def test_a_row_was_written_when_its_place_in_the_stream_says() -> None:
    assert Entry("1793491200123-7", FINAL, RECORD).written_us == 1_793_491_200_123_000
