"""Which versions are read, and that all who write one write the same."""

import pytest

from proxy import versions
from proxy.billing.record import written
from proxy.store.journal.lines import line_of
from proxy.store.scripts import library
from tests.records import RECORD


def test_the_present_version_and_the_one_before_are_read() -> None:
    assert versions.WRITTEN in versions.READ
    assert {versions.WRITTEN, versions.WRITTEN - 1} >= versions.READ
    for version in versions.READ:
        versions.check(version)


def test_a_newer_one_is_told_apart_and_an_older_one_and_none_are_not_guessed_at() -> None:
    with pytest.raises(versions.NewerVersion, match="of version 7, and this gateway reads up to 3"):
        versions.check(7)
    for version in (1, 0, -2, None, "2", 2.0, True):
        with pytest.raises(ValueError) as raised:
            versions.check(version)
        assert raised.type is ValueError


def test_records_the_log_and_reservations_have_one_version() -> None:
    assert written(RECORD).startswith(b"[%d," % versions.WRITTEN)
    assert line_of(b"").startswith(b"%d " % versions.WRITTEN)
    told = f"local VERSION, MARK = {versions.WRITTEN}, 'v{versions.WRITTEN}'"
    assert told in library(("reservations",)).splitlines()
