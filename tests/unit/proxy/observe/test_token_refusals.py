"""Requests of nobody are all counted, and few of them have a line."""

import logging
import time

import pytest

from proxy.errors import InvalidToken
from proxy.observe.metrics import Metrics
from proxy.observe.token_refusals import TokenRefusals
from tests import exposition


def test_a_flood_is_counted_and_has_few_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "proxy.observe.token_refusals")
    metrics, now = Metrics(), [7.2]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    refused = TokenRefusals(metrics, lines_per_s=3)
    for number in range(50):
        refused(InvalidToken("The token has expired.", "expired"), f"R{number}")
    now[0] = 8.1
    refused(InvalidToken("None.", "missing"))
    lines = [vars(line) for line in caplog.records]
    assert [(line["message"], line["request_id"], line["reason"], line["unlogged"]) for line in lines] == [
        ("token_refused", "R0", "token_expired", None),
        ("token_refused", "R1", "token_expired", None),
        ("token_refused", "R2", "token_expired", None),
        ("token_refused", None, "token_missing", 47),
    ]
    text = metrics.render()[0].decode()
    assert exposition.total(text, "tollway_refusals_total", limit="", reason="token_expired") == 50
    assert exposition.total(text, "tollway_refusals_total", limit="", reason="token_missing") == 1
