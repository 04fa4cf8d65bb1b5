"""What stands in the log, and what never does."""

import asyncio
import io
import logging
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proxy.errors import Code, InvalidRequest
from proxy.observe import logs
from tests.records import RECORD

SECRET = "the patient's diagnosis is"
TOUCHED = ("", "tollway", "proxy", "engine", "policies", "uvicorn", "uvicorn.error", "uvicorn.access")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Give what is logged, and put logging back as it was."""
    before = [(log := logging.getLogger(name), log.handlers, log.level, log.propagate) for name in TOUCHED]
    written = io.StringIO()
    logs.configure("info", written)
    yield written
    for log, handlers, level, propagate in before:
        log.handlers, log.propagate, log.disabled = handlers, propagate, False
        log.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in stream.getvalue().splitlines()]


def test_an_exchange_is_one_line_with_the_whole_record(stream: io.StringIO) -> None:
    logs.exchange(RECORD)
    [line] = lines(stream)
    assert line == {"time": "1970-01-01T00:00:03.000000Z", "level": "info", "event": "exchange", **RECORD._asdict()}


def test_a_correction_is_a_line_of_its_own(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    logs.correction(RECORD._replace(charge_picos=-5))
    [line] = lines(stream)
    assert (line["event"], line["charge_picos"]) == ("correction", -5)


def test_exchanges_are_silent_above_info(stream: io.StringIO) -> None:
    logs.configure("warning", stream)
    logs.exchange(RECORD)
    assert stream.getvalue() == ""


def test_everything_else_is_json_of_the_same_shape(stream: io.StringIO) -> None:
    logging.getLogger("proxy.app").warning("replica %s\nleft", "demo-0")
    [line] = lines(stream)
    assert line["time"].endswith("Z")
    assert {key: line[key] for key in ("level", "event", "logger")} == {
        "level": "warning",
        "event": "replica demo-0\nleft",
        "logger": "proxy.app",
    }


def test_a_line_names_its_request_and_nothing_else_from_its_extras(stream: io.StringIO) -> None:
    logging.getLogger("proxy.stages.settle").warning("settle_failed", extra={"request_id": "01JD", "body": SECRET})
    [line] = lines(stream)
    assert line["request_id"] == "01JD"
    assert SECRET not in stream.getvalue()


def test_an_exception_is_told_by_type_and_frames_without_its_message(stream: io.StringIO) -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(f"cannot read {SECRET}") from error
    except ValueError:
        logging.getLogger("proxy.exchange").exception("exchange failed")
    [line] = lines(stream)
    assert [told["type"] for told in line["exception"]] == ["builtins.ValueError", "builtins.KeyError"]
    assert "test_logs.py:" in line["exception"][0]["frames"][0]
    assert SECRET not in stream.getvalue()


def test_our_own_errors_keep_their_message(stream: io.StringIO) -> None:
    try:
        raise InvalidRequest("`n` is not a whole number.", "n")
    except InvalidRequest:
        logging.getLogger("proxy.app").exception(Code.INVALID_REQUEST)
    assert lines(stream)[0]["exception"][0]["message"] == "`n` is not a whole number."


def test_an_exception_group_shows_its_parts_without_messages(stream: io.StringIO) -> None:
    try:
        raise ExceptionGroup(SECRET, [ValueError(SECRET), OSError(SECRET)])
    except ExceptionGroup:
        logging.getLogger("proxy.app").exception("tasks failed")
    [told] = lines(stream)[0]["exception"]
    assert [part["type"] for part in told["group"]] == ["builtins.ValueError", "builtins.OSError"]
    assert SECRET not in stream.getvalue()


def test_exceptions_that_cause_each_other_end(stream: io.StringIO) -> None:
    one, other = ValueError(), ValueError()
    one.__cause__, other.__cause__ = other, one
    logging.getLogger("proxy.app").error("odd", exc_info=one)
    assert 1 < len(lines(stream)[0]["exception"]) < 100


async def test_what_the_event_loop_says_of_a_failure_quotes_no_argument(stream: io.StringIO) -> None:
    def refuse(text: str) -> None:
        raise ValueError(text)

    async def fail() -> None:
        raise ValueError(SECRET)

    loop = asyncio.get_running_loop()
    loop.call_soon(refuse, SECRET)
    task = loop.create_task(fail())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task
    events = [line["event"] for line in lines(stream)]
    assert "Task exception was never retrieved" in events
    assert any(event.startswith("Exception in callback ") for event in events)
    assert SECRET[:8] not in stream.getvalue()


def test_the_server_speaks_here_and_its_access_log_is_off(stream: io.StringIO) -> None:
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("uvicorn.error").info("Started server process [1]")
    logging.getLogger("uvicorn.access").info('127.0.0.1 - "POST /v1/chat/completions" 200')
    assert [line["event"] for line in lines(stream)] == ["Invalid HTTP request received."]


def test_libraries_that_quote_headers_are_quiet_even_at_debug(stream: io.StringIO) -> None:
    logs.configure("debug", stream)
    logging.getLogger("httpcore.http11").debug("send_request_headers Authorization: Bearer abc")
    logging.getLogger("httpx").info("HTTP Request: POST http://replica")
    logging.getLogger("engine.fleet.pool").debug("replica taken")
    assert [line["event"] for line in lines(stream)] == ["replica taken"]


def test_configuring_twice_writes_each_line_once(stream: io.StringIO) -> None:
    logs.configure("info", stream)
    logging.getLogger("proxy.app").info("ready")
    assert len(lines(stream)) == 1
