"""What proxy/store/lua/lib/admission.lua decides, function by function, and how a counter is kept."""

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from policies.quota import MAX_AMOUNT, Limit, Per, Scope, Unit
from proxy.store.compiled_limits import CompiledLimits
from proxy.store.scripts import LIMITS
from tests.lua import Lua, example_in
from tests.redis_server import on_all_servers

pytestmark = on_all_servers

SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
NOW = 1_796_040_000_000_000
"""30 November 2026, 12:00:00 UTC: the moment of the example in proxy/store/lua/lib/counters.lua."""
HALF_A_DAY_US = 43_200_000_000
DECEMBER = 20_788
"""Its first day, in days since 1970."""
COUNTER = r"{'\4\7', 1796083320000, 4000, 30000000, 1796040000000000, 7, 20788, 0}"
"""The counter of the example."""
TOKENS = Limit(Scope.USER, Unit.TOKENS, 9_000, Per.MINUTE)
REQUESTS = Limit(Scope.USER, Unit.REQUESTS, 60, Per.DAY)
IN_FLIGHT = Limit(Scope.USER, Unit.CONCURRENT, 2, None)
MONTH = Limit(Scope.TENANT, Unit.TOKENS, 1_000_000, Per.MONTH)

ROOM = st.integers(-3, 60) | st.integers(0, MAX_AMOUNT)


@pytest.fixture
def lua(redis_url: str) -> Lua:
    return Lua(redis_url, (*LIMITS, "in_flight", "reservations", "admission"))


def packed(*limits: Limit) -> bytes:
    return CompiledLimits(limits).packed


def words_of(lua: Lua, expression: str, *args: int | bytes, keys: Sequence[str] = (), first: str = "") -> list[str]:
    """Return the words of a text that Lua makes."""
    made = lua("string.byte(words, 1, -1)", *args, keys=keys, first=f"{first}\nlocal words = {expression}")
    return bytes(made).decode().split()


def test_a_counter_is_kept_as_its_example_says(lua: Lua) -> None:
    written = f"local counter = {COUNTER}\ncounter[2] = 0\nsave(KEYS[1], counter, a1, a2)"
    lua("", HALF_A_DAY_US, NOW, keys=["counter"], first=written)
    assert lua.redis.get("counter") == example_in("counters")


def test_a_counter_is_read_as_its_example_says(lua: Lua) -> None:
    read = "local counter = unpacked(a1, '\\4\\7', 2)"
    assert lua("string.byte(counter[1], 1, 2)", example_in("counters"), first=read) == [4, 7]
    assert lua("unpack(counter, 2)", example_in("counters"), first=read)[:7] == [
        1_796_083_320_000,
        *(4_000, 30_000_000, NOW),
        *(7, DECEMBER, 0),
    ]


LOOK = """
local counters, lasting, ends, free, binding = look(compiled_limits(a1), {a2, a3}, 0, a4)
"""


def test_a_look_brings_each_limit_to_now_and_finds_the_least_room(lua: Lua) -> None:
    later = NOW + 1_000_000
    args = (packed(TOKENS, REQUESTS), example_in("counters"), 0, later)
    # In a second 150 tokens refill; the half that had refilled before is still there.
    assert lua("counters[1][3], counters[1][4], counters[1][5]", *args, first=LOOK) == [3_850, 30_000_000, later]
    assert lua("free[1], free[2], lasting[1], ends[1]", *args, first=LOOK) == [
        *(5_150, 53),
        *(HALF_A_DAY_US - 1_000_000, DECEMBER),
    ]
    assert lua("binding[3] and 1 or 0, free[3] == math.huge and 1 or 0", *args, first=LOOK) == [0, 1]


def test_of_several_limits_on_tokens_the_one_with_the_least_room_binds(lua: Lua) -> None:
    args = (packed(MONTH, TOKENS, REQUESTS), b"", example_in("counters"), NOW)
    first = LOOK.replace("{a2, a3}", "{false, a3}")
    assert lua("free[1], free[2], #ends, ends[1], ends[2]", *args, first=first) == [5_000, 53, 2, DECEMBER, DECEMBER]
    told = "told(compiled_limits(a1), 2, counters, {}, binding, a4)"
    # 4000 tokens less the half one are back after 26.66 s.
    assert words_of(lua, told, *args, keys=["tenant", "user"], first=first) == [
        *("1", "4000", "26663334"),
        *("2", "7", str(HALF_A_DAY_US)),
    ]


@SETTINGS
@given(tokens=ROOM, requests=st.integers(-1, 2), places=st.integers(-1, 2), prompt=st.integers(0, 20), asked=st.data())
def test_the_largest_completion_that_fits_is_granted(
    lua: Lua, *, tokens: int, requests: int, places: int, prompt: int, asked: st.DataObject
) -> None:
    choices, most = asked.draw(st.integers(1, 4)), asked.draw(st.integers(0, 30))
    least = asked.draw(st.integers(0, most))
    fits = [each for each in range(least, most + 1) if prompt + choices * each <= tokens]
    expected = fits[-1:] if requests > 0 and places > 0 else []
    args = (tokens, requests, places, prompt, choices, most, least)
    assert lua("fitting({a1, a2, a3}, a4, a5, a6, a7)", *args) == expected


@SETTINGS
@given(tokens=st.integers(0, MAX_AMOUNT), choices=st.integers(1, 1_000))
@example(tokens=MAX_AMOUNT, choices=3)
def test_what_fits_is_exact_however_large_it_is(lua: Lua, tokens: int, choices: int) -> None:
    most = MAX_AMOUNT // choices
    assert lua("fitting({a1, 1, 1}, 0, a2, a3, 0)", tokens, choices, most) == [tokens // choices]


def test_what_is_granted_is_taken_of_every_limit(lua: Lua) -> None:
    taken = f"local counter = {COUNTER}\ntake(compiled_limits(a1), 0, {{counter}}, {{a2}}, 250, a3)"
    args = (packed(TOKENS, REQUESTS), HALF_A_DAY_US, NOW)
    assert lua("counter[3], counter[6]", *args, keys=["user"], first=taken) == [4_250, 8]
    read = "local counter = unpacked(redis.call('GET', KEYS[1]), '\\4\\7', 2)"
    assert lua("counter[3], counter[6]", keys=["user"], first=read) == [4_250, 8]


@pytest.mark.parametrize(
    ("tokens", "used_today", "taken", "refusing", "wait_us"),
    [
        # 1000 of 6000 tokens are missing, less half a one: at 150 a second.
        (6_000, 7, 1, 0, 6_663_334),
        # Of 60 requests none is left today.
        (1_000, 60, 1, 1, HALF_A_DAY_US),
        # Both: the longer wait counts.
        (6_000, 60, 1, 1, HALF_A_DAY_US),
        # Both places are taken, until a second from now at least.
        (1_000, 7, 2, 2, 5_000_000),
        # More than the limit ever holds.
        (9_001, 60, 2, 0, None),
    ],
)
def test_the_limit_that_takes_longest_refuses(
    lua: Lua, *, tokens: int, used_today: int, taken: int, refusing: int, wait_us: int | None
) -> None:
    lua.redis.zadd("places", {"R1": NOW + 5_000_000, "R2": NOW + 9_000_000})
    first = (
        f"local counter = {COUNTER}\ncounter[6] = a3\n"
        "local index, waits = longest_wait(compiled_limits(a1), 1, {counter}, {a4}, a2, a5)"
    )
    args = (packed(TOKENS, REQUESTS, IN_FLIGHT), tokens, used_today, taken, NOW)
    told = lua("index, waits == math.huge and -1 or waits", *args, keys=["user", "places"], first=first)
    assert told == [refusing, -1 if wait_us is None else wait_us]


def test_a_limit_that_holds_the_request_by_a_grant_does_not_refuse_it(lua: Lua) -> None:
    days = Limit(Scope.USER, Unit.TOKENS, 5_000, Per.DAY)
    # 3000 more than a day's 5000 were granted; in the minute 1000 of 6000 are missing, less half a one.
    first = (
        r"local counter = {'\2\4', 0, -3000, 20788, 0, 4000, 30000000, a2}"
        "\nlocal index, waits = longest_wait(compiled_limits(a1), 1, {counter}, {}, 6000, a2)"
    )
    assert lua("index, waits", packed(days, TOKENS), NOW, keys=["user"], first=first) == [1, 6_663_334]


@pytest.mark.parametrize(
    ("ends", "kept"),
    [
        ((), ""),
        ((31,), " 31"),
        ((31, 1), " 31 1"),
        ((31, 1, 31, 1, 31, 1), " 31 1"),
        ((31, 1, 31, 2, 31, 2), " 31 1 31 2"),
        ((1, 1, 1), " 1 1"),
    ],
)
def test_a_reservation_names_windows_as_far_as_they_differ(lua: Lua, ends: tuple[int, ...], kept: str) -> None:
    text = f"open_reservation(700, {{{', '.join(map(str, ends))}}}, 3600, '-', '1 granted 5', '{{}}')"
    made = bytes(lua(f"string.byte({text}, 1, -1)")).decode()
    assert made == f"PENDING 700 0{kept} d3600 v3\n-\n1 granted 5\n{{}}"
