"""What a client is told whose request never became one: an answer in the envelope of every other error."""

from http import HTTPStatus

from proxy.errors import ApiError
from proxy.ulids import new_ulid

DROPPED, SILENT = "dropped", "silent"
"""Reasons of a refusal that nobody is told: too many at the door; a connection on which nothing came."""


def refusal(error: ApiError) -> bytes:
    """Return the whole answer, which is its connection's last."""
    body = error.body()
    fields = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("connection", "close"),
        ("x-request-id", new_ulid()),
        *error.headers(),
    ]
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        *(f"{name}: {value}" for name, value in fields),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
