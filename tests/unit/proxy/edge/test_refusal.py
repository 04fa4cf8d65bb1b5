"""A refusal is a whole answer in the envelope, and its connection's last."""

import orjson

from proxy.edge.refusal import refusal
from proxy.errors import ApiError, Code, MethodNotAllowed


def test_a_refusal_is_a_whole_answer() -> None:
    told = refusal(ApiError(Code.OVERLOADED, "Too many of you, n\u00e4mlich zwei.", retry_after_s=3))
    head, body = told.split(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = dict(line.split(": ") for line in lines)
    assert first == "HTTP/1.1 503 Service Unavailable"
    assert (fields["connection"], fields["content-type"], fields["retry-after"]) == ("close", "application/json", "3")
    assert (len(fields["x-request-id"]), int(fields["content-length"])) == (26, len(body))
    assert orjson.loads(body)["error"]["message"] == "Too many of you, n\u00e4mlich zwei."


def test_a_refusal_has_the_errors_own_headers() -> None:
    assert b"\r\nallow: GET\r\n" in refusal(MethodNotAllowed(["GET"]))


def test_each_refusal_has_an_id_of_its_own() -> None:
    error = ApiError(Code.INVALID_REQUEST, "No.")
    assert refusal(error) != refusal(error)
