"""Requests are told as they are read, however the bytes are cut; what is refused, each bound, and upgrades."""

from dataclasses import dataclass, field

import pytest

from proxy.edge import head
from proxy.edge.head import Head
from proxy.edge.parser import RequestParser
from proxy.errors import ApiError, Code, InvalidRequest

HEAD = b"POST /a%20b?c HTTP/1.1\r\nHost: here\r\nAccept: x\r\naccept:  y \r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass
class Told:
    """What was told, in its order: heads, bodies joined, and ends."""

    events: list[Head | bytes | bool] = field(default_factory=list)

    def request_begins(self, head: Head) -> "Told":
        self.events.append(head)
        return self

    def arrived(self, body: bytes) -> None:
        if isinstance(self.events[-1], bytes):
            self.events[-1] += body
        else:
            self.events.append(body)

    def arrived_whole(self, *, keep_alive: bool) -> None:
        self.events.append(keep_alive)

    @property
    def bodies(self) -> list[bytes]:
        return [event for event in self.events if isinstance(event, bytes)]


def read(data: bytes, size: int = 0) -> Told:
    """Return what is told of these bytes, cut into pieces of one size."""
    told = Told()
    parser = RequestParser(told)
    for start in range(0, len(data), size or len(data)):
        parser.feed(data[start : start + size] if size else data)
    return told


@pytest.mark.parametrize("size", [0, 1, 7, 100])
def test_a_request_is_told_in_order_however_it_is_cut(size: int) -> None:
    asked, body, keep_alive = read(HEAD + b"12345", size).events
    assert isinstance(asked, Head)
    assert (asked.method, asked.target, asked.path, asked.version) == (b"POST", b"/a%20b?c", b"/a b", "1.1")
    assert asked.fields == [(b"host", b"here"), (b"accept", b"x"), (b"accept", b"y"), (b"content-length", b"5")]
    assert asked.by_name == {b"host": b"here", b"accept": b"x", b"content-length": b"5"}
    assert (body, keep_alive) == (b"12345", True)


@pytest.mark.parametrize("size", [0, 1, 7])
def test_requests_follow_each_other(size: int) -> None:
    chunks = b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: dropped\r\n\r\n"
    told = read(CHUNKED + chunks + HEAD + b"12345" + CHUNKED + b"0\r\n\r\n", size)
    assert told.bodies == [b"abcde", b"12345"]
    assert [event for event in told.events if isinstance(event, bool)] == [True] * 3
    asked = [event for event in told.events if isinstance(event, Head)]
    assert [each.path for each in asked] == [b"/", b"/a b", b"/"]
    assert all(b"trailer" not in each.by_name for each in asked)


@pytest.mark.parametrize(
    ("raw", "keep_alive"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", False),
    ],
)
def test_whether_the_connection_goes_on(raw: bytes, *, keep_alive: bool) -> None:
    assert read(raw).events[-1] is keep_alive


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("connection", [b"Upgrade", b"close, Upgrade"])
def test_an_upgrade_is_ignored_and_the_body_kept(connection: bytes, size: int) -> None:
    fields = b"Upgrade: h2c\r\nConnection: %b\r\nHTTP2-Settings: AA\r\nContent-Length: 5\r\n\r\n" % connection
    asked, body, keep_alive = read(b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"12345", size).events
    assert isinstance(asked, Head)
    assert not {b"upgrade", b"http2-settings"} & set(asked.by_name)
    assert (body, keep_alive) == (b"12345", connection == b"Upgrade")


def test_a_parser_tells_where_it_stands() -> None:
    parser = RequestParser(Told())
    assert (parser.in_head, parser.head_bytes) == (True, 0)
    parser.feed(HEAD[:10])
    assert parser.in_head
    assert parser.head_bytes >= 10
    parser.feed(HEAD[10:])
    assert (parser.in_head, parser.head_bytes) == (False, 0)
    parser.feed(b"12345")
    assert (parser.in_head, parser.head_bytes) == (True, 0)


@pytest.mark.parametrize("size", [0, 1_000])
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", Code.INVALID_REQUEST),
        (b"what?\r\n\r\n", Code.INVALID_REQUEST),
        (HEAD.replace(b"accept", b"host"), Code.INVALID_REQUEST),
        (b"GET /" + b"a" * head.TARGET_BYTES_MAX, Code.TARGET_TOO_LONG),
        (HEAD[:-2] + b"X: " + b"a" * head.BYTES_MAX, Code.HEADERS_TOO_LARGE),
        (HEAD[:-2] + b"X: y\r\n" * head.FIELDS_MAX + b"\r\n", Code.HEADERS_TOO_LARGE),
        (b"\r\n" * head.BYTES_MAX, Code.HEADERS_TOO_LARGE),
        (CHUNKED + b"1\r\nx\r\n" * 30_000, Code.INVALID_REQUEST),
        (CHUNKED + b"1;" + b"a" * 100_000, Code.INVALID_REQUEST),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 20_000, Code.INVALID_REQUEST),
    ],
)
def test_what_is_refused(raw: bytes, code: Code, size: int) -> None:
    with pytest.raises(ApiError) as caught:
        read(raw, size)
    assert caught.value.code is code


@pytest.mark.parametrize("size", [0, 1_000])
def test_a_body_in_honest_chunks_may_be_large(size: int) -> None:
    chunks = b"".join(b"%x\r\n" % 1_000 + b"y" * 1_000 + b"\r\n" for _ in range(1_000))
    assert read(CHUNKED + chunks + b"0\r\n\r\n", size).bodies == [b"y" * 1_000_000]


def test_what_is_raised_by_who_is_told_is_raised() -> None:
    class Refusing(Told):
        def request_begins(self, head: Head) -> Told:
            raise InvalidRequest("Not here.")

    with pytest.raises(InvalidRequest, match="Not here"):
        RequestParser(Refusing()).feed(HEAD)
