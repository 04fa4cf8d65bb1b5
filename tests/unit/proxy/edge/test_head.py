"""Heads that can be read in one way only; the guard's own test has the rest, over a socket."""

import pytest

from proxy.edge.head import check_coding, check_repeated, path
from proxy.errors import ApiError, Code


@pytest.mark.parametrize("target", [b"/", b"/v1/models", b"/v1/models/a%2Fb", b"/x?y=//..#"[:-1], b"/...", b"/a.b/..c"])
def test_a_plain_target(target: bytes) -> None:
    path(b"GET", "1.1", target, b"here")


@pytest.mark.parametrize(
    "target", [b"", b"*", b"x", b"//", b"/a//b", b"/a/.", b"/..", b"/%2e", b"/%2F", b"/v1/models/%00", b"/%", b"/x?#"]
)
def test_a_target_of_two_meanings(target: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        path(b"GET", "1.1", target, b"here")
    assert caught.value.code is Code.INVALID_REQUEST


@pytest.mark.parametrize("host", [b"", b"a", b"a:80", b"[::1]", b"[::1]:443", b"a-b.example.", b"127.0.0.1:8080"])
def test_a_host(host: bytes) -> None:
    path(b"GET", "1.1", b"/", host)


@pytest.mark.parametrize("host", [b"a b", b"a,b", b"a/b", b"u@a", b"a:b", b"a:123456", b"[::1", b"\xe9", b"a\\b"])
def test_no_host(host: bytes) -> None:
    with pytest.raises(ApiError):
        path(b"GET", "1.1", b"/", host)


def test_only_1_0_may_leave_the_host_out() -> None:
    path(b"GET", "1.0", b"/", None)
    with pytest.raises(ApiError):
        path(b"GET", "1.1", b"/", None)


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE", b"PROPFIND", b"PRI"])
def test_a_method_that_no_path_takes(method: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        path(method, "1.1", b"/", b"here")
    assert caught.value.code is Code.METHOD_NOT_ALLOWED


@pytest.mark.parametrize(
    ("target", "found"),
    [(b"/a/b", b"/a/b"), (b"/a?b=/c%20", b"/a"), (b"/%61%C3%A9?x", "/a\u00e9".encode()), (b"/?", b"/")],
)
def test_a_path_is_without_its_query_and_decoded(target: bytes, found: bytes) -> None:
    assert path(b"GET", "1.1", target, b"here") == found


def test_what_may_stand_once_stands_once() -> None:
    check_repeated([(b"host", b"a"), (b"accept", b"b"), (b"accept", b"c"), (b"expect", b"d")])
    with pytest.raises(ApiError, match="`host` stands twice"):
        check_repeated([(b"host", b"a"), (b"accept", b"b"), (b"host", b"a")])


@pytest.mark.parametrize("name", [b"idempotency-key", b"authorization", b"x-tollway-head", b"x-tollway-charge"])
def test_of_two_wishes_nobody_is_to_choose(name: bytes) -> None:
    with pytest.raises(ApiError, match=f"`{name.decode()}` stands twice") as caught:
        check_repeated([(name, b"one"), (b"accept", b"b"), (name, b"two")])
    assert caught.value.status == 400


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked"])
def test_the_one_transfer_coding(coding: bytes) -> None:
    check_coding("1.1", coding)
    with pytest.raises(ApiError):
        check_coding("1.0", coding)


@pytest.mark.parametrize("coding", [b"", b"gzip", b"identity", b"gzip, chunked", b"chunked, chunked", b"xchunked"])
def test_another_transfer_coding(coding: bytes) -> None:
    with pytest.raises(ApiError):
        check_coding("1.1", coding)
