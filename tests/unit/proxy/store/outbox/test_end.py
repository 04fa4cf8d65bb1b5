import orjson
import pytest

from policies.quota import Limit, Per, Scope, Unit
from proxy.store.outbox.end import Settle, read, written
from tests.records import RECORD

LIMITS = (Limit(Scope.USER, Unit.TOKENS, 2**53 - 1, Per.DAY), Limit(Scope.USER, Unit.CONCURRENT, 2, None))


@pytest.mark.parametrize("unobserved", [True, False])
def test_what_is_written_is_read(*, unobserved: bool) -> None:
    end = Settle(RECORD, LIMITS, unobserved)
    assert b"\n" not in written(end)
    assert read(written(end)) == end


def test_a_field_that_is_not_known_is_passed_over() -> None:
    values = orjson.loads(written(Settle(RECORD, LIMITS, unobserved=False)))
    assert read(orjson.dumps([[*values[0], "good"], *values[1:], "later"])).record == RECORD


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"7", b"[[], [], true]", b"[1, 2, 3]"])
def test_what_is_no_settle_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        read(text)
