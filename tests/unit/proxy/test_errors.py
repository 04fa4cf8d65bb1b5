import json

import pytest

from policies.rejection import Reason
from proxy.errors import (
    TABLE,
    ApiError,
    Code,
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidToken,
    LedgerUnavailable,
    MethodNotAllowed,
    ScopeMissing,
)

# DESIGN's table, as clients read it. Rows that are only told in-band or by routing are below it.
CONTRACT = {
    "invalid_api_key": 401,
    "model_not_allowed": 403,
    "model_not_found": 404,
    "invalid_request": 400,
    "request_too_large": 413,
    "context_length_exceeded": 400,
    "tokens_exceed_plan": 400,
    "idempotency_key_reused": 409,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "concurrency_limit_exceeded": 429,
    "queue_full": 429,
    "no_replica": 503,
    "ledger_unavailable": 503,
    "upstream_error": 502,
    "upstream_timeout": 504,
    "unsupported_media_type": 415,
}


@pytest.mark.parametrize(("code", "status"), CONTRACT.items())
def test_the_contract(code: str, status: int) -> None:
    error = ApiError(Code(code), "Why.", param="n")
    assert error.status == status
    envelope = json.loads(error.body())
    assert envelope == {
        "error": {"message": "Why.", "type": TABLE[Code(code)].type, "param": "n", "code": code},
    }


def test_every_code_has_a_row_and_every_reason_a_code() -> None:
    assert set(TABLE) == set(Code)
    assert {reason.value for reason in Reason} <= {code.value for code in Code}


def test_only_client_errors_blame_the_client() -> None:
    for code, row in TABLE.items():
        assert (row.type == "server_error") == (row.status >= 500), code


def test_openai_clients_tell_quota_from_pace_by_the_type() -> None:
    assert TABLE[Code.INSUFFICIENT_QUOTA].type == "insufficient_quota"
    assert TABLE[Code.RATE_LIMIT_EXCEEDED].type == "rate_limit_error"


def test_who_lacks_a_scope_reads_which_one_and_where_it_comes_from() -> None:
    error = ScopeMissing(("usage:read", "usage:all"))
    assert (error.status, error.code) == (403, Code.PERMISSION_DENIED)
    assert "usage:read, usage:all: its issuer has to grant it, and the gateway's config to list it" in error.message


def test_named_faults() -> None:
    assert (InvalidToken("x").status, InvalidRequest("x", "n").param) == (401, "n")
    assert LedgerUnavailable().retry_after_s == 1


def test_a_message_survives_json() -> None:
    message = 'quote " backslash \\ newline \n snowman \u2603 separator \u2028'
    assert json.loads(ApiError(Code.INTERNAL_ERROR, message).body())["error"]["message"] == message


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (ApiError(Code.QUEUE_FULL, "Full.", retry_after_s=7), [("retry-after", "7")]),
        (ApiError(Code.TOKENS_EXCEED_PLAN, "Never."), []),
        (LedgerUnavailable(), [("retry-after", "1")]),
        (MethodNotAllowed(["POST", "GET"]), [("allow", "GET, POST")]),
        (InvalidToken("No."), [("www-authenticate", "Bearer")]),
        (
            ScopeMissing(("usage:read", "usage:all")),
            [("www-authenticate", 'Bearer error="insufficient_scope", scope="usage:read usage:all"')],
        ),
        (IdempotencyKeyReused("01JD"), [("x-tollway-first-request-id", "01JD"), ("x-should-retry", "false")]),
    ],
)
def test_the_headers_of_an_error(error: ApiError, headers: list[tuple[str, str]]) -> None:
    assert error.headers() == headers
