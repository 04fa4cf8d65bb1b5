import re

import pytest

from engine.faults import MalformedStream
from engine.wire import sse
from engine.wire.sse import FrameSplitter, data_of


@pytest.mark.parametrize(
    ("frame", "data"),
    [
        (b"data: one\n\n", b"one"),
        (b"data:one\n\n", b"one"),
        (b"data:  one\n\n", b" one"),
        (b"data: one\r\n\r\n", b"one"),
        (b"data: one\r\r", b"one"),
        (b"data: one\ndata: two\n\n", b"one\ntwo"),
        (b"data: one\rdata: two\r\n\n", b"one\ntwo"),
        (b"event: message\nid: 7\ndata: one\n\n", b"one"),
        (b"data: one\n: a comment\n\n", b"one"),
        (b"data: [DONE]\n\n", b"[DONE]"),
        (b"data\n\n", b""),
        ("data: a\u2028b\u2029c\u0085d\n\n".encode(), "a\u2028b\u2029c\u0085d".encode()),
        (b": keep-alive\n\n", None),
        (b"event: ping\n\n", None),
        (b"database: one\n\n", None),
        (b"\n\n", None),
    ],
)
def test_the_data_of_a_frame(frame: bytes, data: bytes | None) -> None:
    assert data_of(frame) == data


@pytest.mark.parametrize(
    ("reads", "frames", "rest"),
    [
        ([b"data: 1\n\ndata: 2\n\n"], [b"data: 1\n\n", b"data: 2\n\n"], b""),
        ([b"da", b"ta: 1\n", b"\nda"], [b"data: 1\n\n"], b"da"),
        ([b"data: 1\r\n\r", b"\ndata: 2"], [b"data: 1\r\n\r\n"], b"data: 2"),
        ([b"data: 1\r\r", b"data: 2"], [b"data: 1\r\r"], b"data: 2"),
        ([b"data: 1\n", b"data: 2\n\n"], [b"data: 1\ndata: 2\n\n"], b""),
        ([b"", b"\n", b""], [], b"\n"),
        ([b"data: {}\n\n", b"data: {}\n\ndata: {}\n\n\n"], [b"data: {}\n\n"] * 3, b"\n"),
        ([b"data: {}\n\n", b"\ndata: {}\n\n\n\n"], [b"data: {}\n\n", b"\ndata: {}\n\n", b"\n\n"], b""),
    ],
)
def test_frames_end_at_a_blank_line(reads: list[bytes], frames: list[bytes], rest: bytes) -> None:
    splitter = FrameSplitter()
    assert [frame for read in reads for frame in splitter.feed(read)] == frames
    assert splitter.rest == rest


def test_a_frame_that_never_ends_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FRAME_BYTES_MAX", 100)
    splitter = FrameSplitter()
    assert splitter.feed(b"data: " + b"x" * 94) == []
    with pytest.raises(MalformedStream):
        splitter.feed(b"x")


def test_many_frames_in_one_read_are_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "FRAME_BYTES_MAX", 100)
    assert len(FrameSplitter().feed(b"data: 1\n\n" * 100)) == 100


def test_each_byte_of_a_frame_that_takes_long_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = 0

    class Counting:
        def search(self, data: bytes, start: int, end: int) -> re.Match[bytes] | None:
            nonlocal searched
            searched += end - start
            return blank_line.search(data, start, end)

    blank_line = sse._BLANK_LINE
    monkeypatch.setattr(sse, "_BLANK_LINE", Counting())
    splitter = FrameSplitter()
    for _ in range(100):
        assert splitter.feed(b"x" * 100) == []
    assert [len(frame) for frame in splitter.feed(b"\n\n")] == [10_002]
    assert searched < 12_000
