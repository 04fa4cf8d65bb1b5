"""The headers of an answer, read back as clients read them."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.fleet.replica import Replica
from engine.protocols.chat import CHAT
from policies.quota import Limit, LimitStatus, Per, Scope, Unit
from proxy.admitted import Admitted
from proxy.attempt import Attempt
from proxy.catalog import Catalog
from proxy.exchange_state import ExchangeState
from proxy.http.headers import duration, exchange_headers, lines
from proxy.settings.loading import parse
from tests.unit.proxy.gateway import CONFIG
from tests.unit.proxy.test_call import CHAT_BODY, call

TOKENS = LimitStatus(Limit(Scope.USER, Unit.TOKENS, 10_000, Per.MINUTE), 2_500, 45_000_000, 7_500)
TENANT_TOKENS = LimitStatus(Limit(Scope.TENANT, Unit.TOKENS, 900_000, Per.MONTH), 2_400, 90_061_500_000, 897_600)
REQUESTS = LimitStatus(Limit(Scope.USER, Unit.REQUESTS, 20, Per.MINUTE), 19, 3_000_001, 1)
IN_FLIGHT = LimitStatus(Limit(Scope.USER, Unit.CONCURRENT, 2, None), 1, 5_000_000, 1)


def told(*statuses: LimitStatus) -> dict[str, str]:
    """Return the headers of an exchange whose limits stand like this."""
    return read(exchange_headers(ExchangeState(CHAT, "I"), statuses))


def read(head: bytes) -> dict[str, str]:
    """Read the lines of a head."""
    assert head.endswith(b"\r\n")
    read = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[:-1]]
    assert len(dict(read)) == len(read)
    return dict(read)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0ms"),
        (1, "1ms"),
        (120_000, "120ms"),
        (999_001, "1s"),
        (1_500_000, "1.5s"),
        (59_999_000, "59.999s"),
        (60_000_000, "1m0s"),
        (360_000_000, "6m0s"),
        (3_600_000_000, "1h0m0s"),
        (90_061_500_000, "25h1m1.5s"),
    ],
)
def test_a_duration_as_openai_writes_it(us: int, text: str) -> None:
    assert duration(us) == text


def milliseconds(text: str) -> int:
    """Read a duration as Go's `time.ParseDuration` does, which OpenAI's format comes from."""
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:(\d+)ms)?", text)
    assert parts is not None
    hours, minutes, seconds, ms = parts.groups()
    return int(hours or 0) * 3_600_000 + int(minutes or 0) * 60_000 + round(float(seconds or 0) * 1000) + int(ms or 0)


@given(st.integers(0, 40 * 86_400_000_000))
def test_a_duration_is_read_back_and_never_too_short(us: int) -> None:
    assert milliseconds(duration(us)) == -(-us // 1_000)


def test_the_limit_that_binds_is_told_in_openais_form() -> None:
    headers = told(TOKENS, TENANT_TOKENS, REQUESTS, IN_FLIGHT)
    assert {name: value for name, value in headers.items() if name.startswith("x-ratelimit-")} == {
        "x-ratelimit-limit-requests": "20",
        "x-ratelimit-remaining-requests": "19",
        "x-ratelimit-reset-requests": "3.001s",
        "x-ratelimit-limit-tokens": "900000",
        "x-ratelimit-remaining-tokens": "2400",
        "x-ratelimit-reset-tokens": "25h1m1.5s",
    }


def test_of_two_that_leave_the_same_the_later_binds() -> None:
    soon = LimitStatus(TOKENS.limit, 0, 1_000_000, 0)
    late = LimitStatus(TENANT_TOKENS.limit, 0, 9_000_000, 0)
    for statuses in ([soon, late], [late, soon]):
        assert told(*statuses)["x-ratelimit-reset-tokens"] == "9s"


def listed(header: str) -> dict[str, dict[str, str]]:
    """Read a structured field: a list of quoted names with parameters."""
    members = {}
    for member in header.split(", "):
        name, *parameters = member.split(";")
        assert re.fullmatch(r'"[a-z_-]+"', name)
        members[name.strip('"')] = dict(parameter.split("=") for parameter in parameters)
    return members


def test_every_limit_is_told_in_the_ietfs_form() -> None:
    headers = told(TOKENS, TENANT_TOKENS, REQUESTS, IN_FLIGHT)
    assert listed(headers["ratelimit-policy"]) == {
        "user-tokens-minute": {"q": "10000", "qu": '"tokens"', "w": "60"},
        "tenant-tokens-month": {"q": "900000", "qu": '"tokens"', "w": "2678400"},
        "user-requests-minute": {"q": "20", "qu": '"requests"', "w": "60"},
        "user-concurrent": {"q": "2", "qu": '"concurrent"'},
    }
    assert listed(headers["ratelimit"]) == {
        "user-tokens-minute": {"r": "2500", "t": "45"},
        "tenant-tokens-month": {"r": "2400", "t": "90062"},
        "user-requests-minute": {"r": "19", "t": "4"},
        "user-concurrent": {"r": "1", "t": "5"},
    }


def test_a_plan_without_limits_tells_none() -> None:
    assert set(told()) == {"x-request-id"}


def test_limits_of_one_unit_alone_tell_nothing_of_the_other() -> None:
    assert not [name for name in told(TOKENS, IN_FLIGHT) if name.endswith("-requests")]
    assert set(told(IN_FLIGHT)) == {"x-request-id", "ratelimit", "ratelimit-policy"}


def test_each_answer_tells_how_limits_stand_now() -> None:
    first, later = told(TOKENS), told(LimitStatus(TOKENS.limit, 0, 60_000_000, 10_000))
    assert (first["x-ratelimit-remaining-tokens"], later["x-ratelimit-remaining-tokens"]) == ("2500", "0")
    assert (first["ratelimit"], later["ratelimit"]) == (
        '"user-tokens-minute";r=2500;t=45',
        '"user-tokens-minute";r=0;t=60',
    )


def test_headers_are_lines() -> None:
    assert read(lines([("retry-after", "7"), ("allow", "GET")])) == {"retry-after": "7", "allow": "GET"}
    assert lines([]) == b""


def test_an_exchange_tells_what_is_known_of_it(tmp_path: Path) -> None:
    state = ExchangeState(CHAT, "I")
    assert read(exchange_headers(state)) == {"x-request-id": state.request_id}
    asked = call(Catalog.of(parse(CONFIG, {}, folder=tmp_path)), CHAT_BODY | {"max_tokens": 400})
    state.admitted = Admitted(asked, asked.ask(hold_us=1), 300, (), at=10.0)
    state.attempts = [Attempt(state.admitted, Replica("demo-0", "http://demo-0", 1).lease(1, 1, 1), turned=10.25)]
    headers = read(exchange_headers(state))
    assert headers["x-tollway-replica"] == "demo-0"
    assert headers["x-tollway-queue-ms"] == "250"
    assert headers["x-tollway-max-completion"] == "300"
