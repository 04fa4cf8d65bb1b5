"""
Logs: one JSON line for everything that is said, one line for each exchange.

Rules: no prompt text and no token, ever. Exceptions are therefore told by their type and their frames: the message of
an exception may quote what a client sent, and only `ApiError`'s is written by us. Libraries speak up from warning on;
their debug lines quote headers and bodies. A line has what `events.FIELDS` lists and nothing else of what a call adds.
Nothing here knows what an exchange means; its record is written as it is.
"""

import logging
import sys
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, NamedTuple, TextIO

import orjson

from proxy.billing.record import ExchangeRecord
from proxy.errors import ApiError
from proxy.observe.events import FIELDS


class Refusal(NamedTuple):
    """Why an exchange was refused, as its line tells it. Units: `needed` and `left` in the limit's."""

    limit: str
    reason: str
    needed: int
    left: int


class Try(NamedTuple):
    """One attempt of an exchange, as its line tells it."""

    replica: str
    outcome: str
    """`ok`, `cut`, or the fault: `connect`, `timeout`, `broken`, `status_503`, `refused_400`, ..."""
    seconds: float


_OURS = ("tollway", "proxy", "engine", "policies")
_EXCHANGE = logging.getLogger("tollway.exchange")
_CAUSES_MAX = 8
_FRAMES_MAX = 50


def configure(level: str = "info", stream: TextIO | None = None) -> None:
    """
    Send every logger's lines to `stream` (standard error by default) as JSON; calling it again replaces the stream.

    `level` holds for the gateway's own loggers. To be told of requests twice helps nobody: uvicorn's access log is off.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    for name in ("uvicorn", "uvicorn.error"):
        server = logging.getLogger(name)
        server.handlers, server.propagate = [], True
        server.setLevel(logging.WARNING)
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.disabled = [], True


def exchange(record: ExchangeRecord, tries: Iterable[Try] = (), refusal: Refusal | None = None) -> None:
    """Write the exchange's line, stamped with the time it finished, with the tries that this gateway made."""
    _tell("exchange", record, tries, refusal)


def correction(record: ExchangeRecord) -> None:
    """Write the line of a CORRECTION, whose counts are differences, stamped as its exchange."""
    _tell("correction", record)


def _tell(event: str, record: ExchangeRecord, tries: Iterable[Try] = (), refusal: Refusal | None = None) -> None:
    if _EXCHANGE.isEnabledFor(logging.INFO):
        line = logging.LogRecord(_EXCHANGE.name, logging.INFO, "", 0, event, None, None)
        line.created = record.finished_at / 1_000_000
        line.exchange = record
        line.tries = [each._asdict() for each in tries]
        line.refused = refusal
        _EXCHANGE.handle(line)


class JsonFormatter(logging.Formatter):
    """One line of JSON: `time` (RFC 3339, UTC), `level`, `event`, and what belongs to the event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of `record`, without its end."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
        line: dict[str, Any] = {"time": time.replace("+00:00", "Z"), "level": record.levelname.lower()}
        told: ExchangeRecord | None = getattr(record, "exchange", None)
        if told is not None:
            tries: list[dict[str, Any]] = getattr(record, "tries", [])
            line |= {"event": record.msg} | told._asdict() | ({"tries": tries} if tries else {})
            if (refusal := getattr(record, "refused", None)) is not None:
                line["refused"] = refusal._asdict()
            return orjson.dumps(line).decode()
        line |= {"event": _event(record), "logger": record.name}
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info and record.exc_info[1]:
            line["exception"] = _exception(record.exc_info[1])
        return orjson.dumps(line).decode()


def _event(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.name == "asyncio":
        # The event loop quotes a callback's arguments and the failed task's exception behind the first bracket or line.
        return message.split("\n", 1)[0].split("(", 1)[0]
    return message


def _exception(error: BaseException) -> list[dict[str, Any]]:
    """Return an exception and its causes, the last first, each without what a client may have sent."""
    told: list[dict[str, Any]] = []
    cause: BaseException | None = error
    while cause is not None and len(told) < _CAUSES_MAX:
        told.append(_one_exception(cause))
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return told


def _one_exception(error: BaseException) -> dict[str, Any]:
    frames = traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False)
    told: dict[str, Any] = {
        "type": f"{type(error).__module__}.{type(error).__qualname__}",
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-_FRAMES_MAX:]],
    }
    if isinstance(error, ApiError):
        told["message"] = error.message
    if isinstance(error, BaseExceptionGroup):
        told["group"] = [_one_exception(inner) for inner in error.exceptions[:_CAUSES_MAX]]
    return told
