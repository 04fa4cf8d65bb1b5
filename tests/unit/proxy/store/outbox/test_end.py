import orjson
import pytest

from policies.quota import WHOLE, Limit, Per, Scope, Unit
from proxy.store.outbox.end import Settle, read, written
from tests.records import RECORD

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 2**53 - 1, Per.DAY), Limit(Scope.USER, Unit.CONCURRENT, 2, None))


@pytest.mark.parametrize("held", [0, 1, 700, WHOLE])
@pytest.mark.parametrize("frees", [True, False])
def test_what_is_written_is_read(held: int, *, frees: bool) -> None:
    end = Settle(RECORD, LIMITS, held, frees)
    assert b"\n" not in written(end)
    assert read(written(end)) == end


def test_a_field_that_is_not_known_is_passed_over() -> None:
    values = orjson.loads(written(Settle(RECORD, LIMITS, held=0)))
    assert read(orjson.dumps([[*values[0], "good"], *values[1:], "later"])).record == RECORD


@pytest.mark.parametrize(("told", "held"), [(True, WHOLE), (False, 0)])
def test_what_only_told_whether_all_is_kept_is_read(*, told: bool, held: int) -> None:
    record, limits, *_ = orjson.loads(written(Settle(RECORD, LIMITS, held=0)))
    assert read(orjson.dumps([record, limits, told])) == Settle(RECORD, LIMITS, held)


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"7", b"[[], [], true]", b"[1, 2, 3]"])
def test_what_is_no_settle_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        read(text)
