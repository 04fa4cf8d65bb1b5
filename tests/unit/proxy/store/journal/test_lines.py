"""What was written is read; what a kill cut short and what was damaged are told apart, at every byte."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.store.journal import lines
from proxy.store.journal.lines import Damaged, line_of, payload_of, scan
from proxy.versions import NewerVersion

PAYLOADS = st.binary(max_size=40).filter(lambda payload: b"\n" not in payload)


def test_a_line_is_what_it_says() -> None:
    assert line_of(b"abc") == b"3 09bf1083 abc\n"
    assert payload_of(line_of(b"abc")) == b"abc"


def test_a_line_of_the_version_before_is_read() -> None:
    assert payload_of(b"2 352441c2 abc\n") == b"abc"


@given(payload=PAYLOADS, at=st.integers(0), flip=st.integers(1, 255))
def test_a_changed_byte_is_found(payload: bytes, at: int, flip: int) -> None:
    line = bytearray(line_of(payload))
    line[at % len(line)] ^= flip
    with pytest.raises(Damaged):
        payload_of(bytes(line))


@given(payloads=st.lists(PAYLOADS, max_size=5), last=PAYLOADS)
def test_a_tail_torn_at_any_byte_is_cut_and_all_before_is_whole(payloads: list[bytes], last: bytes) -> None:
    whole = b"".join(map(line_of, payloads))
    torn = line_of(last)
    for kept in range(len(torn)):
        seen = scan(whole + torn[:kept])
        assert (len(seen.entries), seen.damaged, seen.end) == (len(payloads), (), len(whole))
    assert len(scan(whole + torn).entries) == len(payloads) + 1


@given(payloads=st.lists(PAYLOADS, min_size=1, max_size=6), data=st.data())
def test_damage_in_the_middle_costs_the_line_it_is_in(payloads: list[bytes], data: st.DataObject) -> None:
    lines = [line_of(payload) for payload in payloads]
    hit = data.draw(st.integers(0, len(lines) - 1))
    at = data.draw(st.integers(0, len(lines[hit]) - 2))
    starts = [sum(map(len, lines[:index])) for index in range(len(lines))]
    lines[hit] = lines[hit][:at] + bytes([lines[hit][at] ^ 0x80]) + lines[hit][at + 1 :]
    seen = scan(b"".join(lines))
    assert seen.entries == tuple(start for index, start in enumerate(starts) if index != hit)
    # A byte that became a line end makes two damaged lines of one.
    ends = [starts[hit] + at + 1] if lines[hit][at] == ord("\n") else []
    bounds = [starts[hit], *ends, starts[hit] + len(lines[hit])]
    assert seen.damaged == tuple(pairwise(bounds))


def test_a_newer_version_is_told_apart_from_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    older = line_of(b"abc")
    with monkeypatch.context() as patch:
        patch.setattr(lines, "_VERSION", b"13")
        patch.setattr(lines, "_SEED", lines._seed(b"13"))
        newer = line_of(b"abc")
    with pytest.raises(NewerVersion):
        payload_of(newer)
    assert (scan(older).newer, scan(older + newer + older).newer) == (0, 13)
    assert scan(older + newer).entries == (0,)
    for at in range(len(newer) - 1):
        damaged = newer[:at] + bytes([newer[at] ^ 1]) + newer[at + 1 :]
        assert scan(damaged).newer == 0, "damage is never taken for a newer version"


def test_another_version_is_not_guessed_at() -> None:
    with pytest.raises(Damaged):
        payload_of(b"2" + line_of(b"abc")[1:])
