"""The fault table gives each request the first row that applies, as often as the row says."""

from typing import Any

import pytest

from engine.sim.faults import FaultKind, FaultTable


def table(*rows: dict[str, Any]) -> FaultTable:
    faults = FaultTable()
    faults.add(list(rows))
    return faults


def kinds(faults: FaultTable, *paths: str) -> list[FaultKind | None]:
    return [fault.kind if (fault := faults.draw(path)) else None for path in paths]


def test_the_first_row_that_applies_is_taken() -> None:
    faults = table({"kind": "hang", "path": "/b"}, {"kind": "crash"})
    assert kinds(faults, "/a", "/b") == [FaultKind.CRASH, FaultKind.HANG]


def test_a_used_up_row_makes_way_for_the_next() -> None:
    faults = table({"kind": "refuse", "count": 2}, {"kind": "crash", "count": 1})
    assert kinds(faults, "/", "/", "/", "/") == [FaultKind.REFUSE, FaultKind.REFUSE, FaultKind.CRASH, None]


def test_clear_empties_the_table() -> None:
    faults = table({"kind": "hang"})
    faults.clear()
    assert faults.rows() == []
    assert kinds(faults, "/") == [None]


@pytest.mark.parametrize(
    "row",
    [7, {}, {"kind": "flood"}, {"kind": "hang", "when": 3}, {"kind": "hang", "after_tokens": -1},
     {"kind": "hang", "count": 0}, {"kind": "hang", "count": "1"}],
)  # fmt: skip
def test_what_is_no_fault_adds_nothing(row: Any) -> None:
    faults = FaultTable()
    with pytest.raises(ValueError):
        faults.add([{"kind": "crash"}, row])
    assert faults.rows() == []
