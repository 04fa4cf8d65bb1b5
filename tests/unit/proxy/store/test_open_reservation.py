"""What a sweep finds of a request that nobody has ended."""

import orjson
import pytest

from policies.pricing import Price
from policies.quota import Limit, Per, Scope, Unit
from proxy.billing.record import written
from proxy.store.compiled_limits import CompiledLimits
from proxy.store.open_reservation import OpenReservation, noted
from proxy.versions import NewerVersion
from tests.records import RECORD

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 100, Per.DAY), Limit(Scope.USER, Unit.CONCURRENT, 2, None))
PRICE = Price(version="1", currency="EUR", prompt=1, cached=2, completion=3)
DRAFT = RECORD._replace(replica="", attempts=0, queue_ms=0, ttft_ms=None, prompt_tokens=0, completion_tokens=0)


def text(*progress: str, price: Price | None = PRICE) -> str:
    known = written(DRAFT).decode(), CompiledLimits(LIMITS).text.decode(), orjson.dumps(price).decode()
    return "\n".join(["PENDING 900 0 20780", "-", "1 granted 5", *known, *progress])


def test_what_was_reserved_is_found() -> None:
    assert OpenReservation.read(text()) == (DRAFT, LIMITS, PRICE, False)
    assert OpenReservation.read(text(price=None)).price is None


def test_the_version_behind_the_windows_is_looked_at() -> None:
    for version in (2, 3):
        assert OpenReservation.read(text().replace("20780\n", f"20780 v{version}\n")) == OpenReservation.read(text())
    with pytest.raises(NewerVersion):
        OpenReservation.read(text().replace("20780\n", "20780 v4\n"))


def test_what_was_noted_is_found() -> None:
    found = OpenReservation.read(text(f"1 120 11 {noted(RECORD)}"))
    assert found.record == RECORD
    assert found.observed


def test_a_turn_without_usage_is_found() -> None:
    found = OpenReservation.read(text(f"1 - - {noted(RECORD)}"))
    assert found.record == RECORD._replace(prompt_tokens=0, completion_tokens=0)
    assert not found.observed


BROKEN = [
    "",
    text().replace("20780", "v"),
    "PENDING",
    text()[:-9],
    text("1 x y []"),
    text("1 1 1 7"),
    text().replace("[", "{"),
]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_none_is_a_value_error(broken: str) -> None:
    with pytest.raises(ValueError):
        OpenReservation.read(broken)
