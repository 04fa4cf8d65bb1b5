"""
What vLLM answers instead of tokens: the error values of this simulation, in vLLM's words.

Rules: a `Rejection` becomes either an HTTP status with a compact JSON body or, where vLLM has already sent its 200
head, one spaced JSON frame followed by `[DONE]`; which of the two is `in_band`.

Source: the recorded transcripts 300 to 413.
"""

import json
from typing import Any

import orjson


class Rejection(Exception):
    """An answer in vLLM's error envelope."""

    def __init__(
        self, status: int, kind: str, message: str, *, param: str | None = None, in_band: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.in_band = in_band
        self._error: dict[str, Any] = {"message": message, "type": kind, "param": param, "code": status}

    def body(self) -> bytes:
        """Return the JSON body."""
        return orjson.dumps({"error": self._error})

    def frame(self) -> bytes:
        """Return the SSE frame, spaced as `json.dumps` spaces."""
        return b"data: " + json.dumps({"error": self._error}).encode() + b"\n\n"


class BadParameter(Rejection):
    """A field has a value that the engine cannot sample with."""

    def __init__(self, message: str, param: str | None = None, value: object = None, *, in_band: bool = False) -> None:
        details = [f"parameter={param}"] if param else []
        details += [f"value={value}"] if value is not None else []
        message += f" ({', '.join(details)})" if details else ""
        super().__init__(400, "BadRequestError", message, param=param, in_band=in_band)


class Unprocessable(Rejection):
    """The body does not have the shape of the endpoint."""

    def __init__(self, error: object, loc: str | None = None) -> None:
        super().__init__(400, "Bad Request", f"1 validation error:\n  {error}", param=loc)


class UnknownModel(Rejection):
    """The replica serves other models."""

    def __init__(self, name: object, served: tuple[str, ...]) -> None:
        message = f"The model `{name}` does not exist. Valid aliases: {', '.join(served)}."
        super().__init__(404, "NotFoundError", message, param="model")


class Overloaded(Rejection):
    """The waiting queue is full."""

    def __init__(self, *, in_band: bool = False) -> None:
        message = "The engine is currently busy and cannot accept new requests. "
        message += "Please try again later or on a different instance."
        super().__init__(503, "Service Unavailable", message, in_band=in_band)


class EngineDead(Rejection):
    """The engine process behind the API server is gone."""

    def __init__(self, *, in_band: bool = False) -> None:
        message = "EngineCore encountered an issue. See stack trace (above) for the root cause."
        super().__init__(500, "InternalServerError", message, in_band=in_band)
