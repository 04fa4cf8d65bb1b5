"""
The one table of errors: every refusal and every fault, and what the client reads of it.

Faults derive from `ApiError` and name their row. Refusals are values where they are decided (`policies.quota.Refused`,
`policies.rejection.Rejected`); `refusal` and `rejection` turn them into rows of the same table. Nothing else in the
gateway names an HTTP error status. How a row is written is its protocol's to say (`engine.protocols.base.FailureRow`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from engine.protocols.openai import error_body
from policies.quota import Per, Refused, Unit
from policies.rejection import Rejected


class Code(StrEnum):
    """The `code` of an error body; also the `outcome` label of `tollway_requests_total`."""

    INVALID_API_KEY = "invalid_api_key"
    PERMISSION_DENIED = "permission_denied"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    MODEL_NOT_FOUND = "model_not_found"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    INVALID_REQUEST = "invalid_request"
    REQUEST_TOO_LARGE = "request_too_large"
    HEADERS_TOO_LARGE = "headers_too_large"
    TARGET_TOO_LONG = "target_too_long"
    REQUEST_TIMEOUT = "request_timeout"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
    TOKENS_EXCEED_PLAN = "tokens_exceed_plan"
    RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
    INSUFFICIENT_QUOTA = "insufficient_quota"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    CONCURRENCY_LIMIT_EXCEEDED = "concurrency_limit_exceeded"
    QUEUE_FULL = "queue_full"
    NO_REPLICA = "no_replica"
    IDENTITY_UNAVAILABLE = "identity_unavailable"
    """No fault in the error budget: whoever names an issuer that is away gets it, with any token."""
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    OVERLOADED = "overloaded"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    STREAM_TRUNCATED = "stream_truncated"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What one code means on the wire."""

    status: int
    type: str
    """OpenAI's `error.type`."""


_INVALID = "invalid_request_error"
_RATE = "rate_limit_error"
_SERVER = "server_error"

TABLE: dict[Code, ErrorRow] = {
    Code.INVALID_API_KEY: ErrorRow(401, "authentication_error"),
    Code.PERMISSION_DENIED: ErrorRow(403, "permission_error"),
    Code.MODEL_NOT_ALLOWED: ErrorRow(403, "permission_error"),
    Code.MODEL_NOT_FOUND: ErrorRow(404, _INVALID),
    Code.NOT_FOUND: ErrorRow(404, _INVALID),
    Code.METHOD_NOT_ALLOWED: ErrorRow(405, _INVALID),
    Code.INVALID_REQUEST: ErrorRow(400, _INVALID),
    Code.REQUEST_TOO_LARGE: ErrorRow(413, _INVALID),
    Code.HEADERS_TOO_LARGE: ErrorRow(431, _INVALID),
    Code.TARGET_TOO_LONG: ErrorRow(414, _INVALID),
    Code.REQUEST_TIMEOUT: ErrorRow(408, _INVALID),
    Code.UNSUPPORTED_MEDIA_TYPE: ErrorRow(415, _INVALID),
    Code.CONTEXT_LENGTH_EXCEEDED: ErrorRow(400, _INVALID),
    Code.TOKENS_EXCEED_PLAN: ErrorRow(400, _INVALID),
    Code.RATE_LIMIT_EXCEEDED: ErrorRow(429, _RATE),
    Code.INSUFFICIENT_QUOTA: ErrorRow(429, "insufficient_quota"),
    Code.IDEMPOTENCY_KEY_REUSED: ErrorRow(409, _INVALID),
    Code.CONCURRENCY_LIMIT_EXCEEDED: ErrorRow(429, _RATE),
    Code.QUEUE_FULL: ErrorRow(429, _RATE),
    Code.NO_REPLICA: ErrorRow(503, _SERVER),
    Code.IDENTITY_UNAVAILABLE: ErrorRow(503, _SERVER),
    Code.LEDGER_UNAVAILABLE: ErrorRow(503, _SERVER),
    Code.OVERLOADED: ErrorRow(503, _SERVER),
    Code.UPSTREAM_ERROR: ErrorRow(502, _SERVER),
    Code.UPSTREAM_TIMEOUT: ErrorRow(504, _SERVER),
    Code.STREAM_TRUNCATED: ErrorRow(502, _SERVER),
    Code.INTERNAL_ERROR: ErrorRow(500, _SERVER),
}
"""`stream_truncated` is told in-band only: its status never reaches a client."""


class ApiError(Exception):
    """
    An answer other than success: a row of the table, and what happened.

    Units: `retry_after_s` in whole seconds, never below 1; None where trying again does not help or is not known.
    """

    def __init__(self, code: Code, message: str, *, param: str | None = None, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def reason(self) -> str:
        """Name what it was, one of few words: for labels and the log."""
        return self.code

    @property
    def status(self) -> int:
        """Return the HTTP status of this error's row."""
        return TABLE[self.code].status

    @property
    def type(self) -> str:
        """Return OpenAI's kind of error of this error's row."""
        return TABLE[self.code].type

    def body(self) -> bytes:
        """Return the envelope for who asked by no protocol that has one of its own: OpenAI's."""
        return error_body(self)

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that tell more than the body."""
        return [] if self.retry_after_s is None else [("retry-after", str(self.retry_after_s))]


class ClientGone(Exception):
    """The client closed its connection before it had its answer."""


class InvalidToken(ApiError):
    """No, malformed, expired or forged token; neither the message nor `what`, one word, repeats what was sent."""

    def __init__(self, message: str, what: str = "malformed") -> None:
        super().__init__(Code.INVALID_API_KEY, message)
        self.what = what

    @property
    def reason(self) -> str:
        """Name what is wrong with the token."""
        return f"token_{self.what}"

    def headers(self) -> list[tuple[str, str]]:
        """Return the scheme that is expected (RFC 9110 section 11.6.1)."""
        return [*super().headers(), ("www-authenticate", "Bearer")]


class ScopeMissing(ApiError):
    """The token is good, and has none of the scopes of which this path needs one."""

    def __init__(self, scopes: Iterable[str]) -> None:
        self.scopes = " ".join(scopes)
        message = (
            f"This needs a token with one of the scopes {self.scopes.replace(' ', ', ')}: "
            "its issuer has to grant it, and the gateway's config to list it for that issuer."
        )
        super().__init__(Code.PERMISSION_DENIED, message)

    def headers(self) -> list[tuple[str, str]]:
        """Return what would do (RFC 6750 section 3.1)."""
        return [*super().headers(), ("www-authenticate", f'Bearer error="insufficient_scope", scope="{self.scopes}"')]


class KeysUnavailable(ApiError):
    """A token could not be judged, because its issuer's keys could not be fetched."""

    def __init__(self) -> None:
        message = "The keys of the token's issuer cannot be fetched now, so the token could not be checked; try again."
        super().__init__(Code.IDENTITY_UNAVAILABLE, message, retry_after_s=10)


class TooManyForgeries(ApiError):
    """A token was not judged, because too many with a wrong signature arrive."""

    def __init__(self, wait_us: int) -> None:
        message = "Too many tokens with a wrong signature arrive; this one was not checked. Send it again."
        super().__init__(Code.RATE_LIMIT_EXCEEDED, message, retry_after_s=whole_seconds(wait_us))


class InvalidRequest(ApiError):
    """The body or a parameter is not what the endpoint takes."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(Code.INVALID_REQUEST, message, param=param)


class MethodNotAllowed(ApiError):
    """The path is asked with a method that it does not take; `allow` are those that it does."""

    def __init__(self, allow: Iterable[str]) -> None:
        self.allow = ", ".join(sorted(allow))
        super().__init__(Code.METHOD_NOT_ALLOWED, f"This path takes {self.allow}.")

    def headers(self) -> list[tuple[str, str]]:
        """Return what the path takes."""
        return [*super().headers(), ("allow", self.allow)]


class ModelNotFound(ApiError):
    """No such model, or none that this caller may know of."""

    def __init__(self, name: str) -> None:
        super().__init__(Code.MODEL_NOT_FOUND, f"The model `{name[:128]}` does not exist.", param="model")


class LimitRefused(ApiError):
    """
    A limit of the caller's plan has no room; `statuses` are how all that could bind stand.

    Units: `needed`, the least that was asked, and `left` in the limit's.
    """

    def __init__(
        self, code: Code, message: str, refused: Refused, *, needed: int, retry_after_s: int | None = None
    ) -> None:
        super().__init__(code, message, retry_after_s=retry_after_s)
        self.statuses = refused.statuses
        self.limit = refused.limit.name
        self.needed = needed
        self.left = _left(refused)


def _left(refused: Refused) -> int:
    return next((status.remaining for status in refused.statuses if status.limit == refused.limit), 0)


class IdempotencyKeyReused(ApiError):
    """The client's own key for this request belongs to an earlier one, which is the only one that runs."""

    def __init__(self, first: str) -> None:
        message = f"This Idempotency-Key was used before, by the request {first}; its answer is not repeated."
        super().__init__(Code.IDEMPOTENCY_KEY_REUSED, message)
        self.first = first

    def headers(self) -> list[tuple[str, str]]:
        """Return whose key it is, and that trying again does not help: OpenAI's clients try a 409 again."""
        return [*super().headers(), ("x-tollway-first-request-id", self.first), ("x-should-retry", "false")]


LEDGER_REFUSES = "The quota store takes nothing now; try again shortly."
"""What a client is told where Redis answers with an error; what that says is for operators."""


class LedgerUnavailable(ApiError):
    """Redis did not answer within its deadline, or refused: nothing can be admitted or settled now."""

    told = False
    """Whether the log has told of it already, as one outage of many calls."""

    def __init__(self, message: str = "The quota store does not answer; try again shortly.") -> None:
        super().__init__(Code.LEDGER_UNAVAILABLE, message, retry_after_s=1)


def is_told(fault: BaseException) -> bool:
    """Tell whether the log has told of a fault already, as a part of an outage."""
    return isinstance(fault, LedgerUnavailable) and fault.told


class JournalUnavailable(ApiError):
    """The gateway's own disk does not take what was used: nothing is begun that could not be billed."""

    def __init__(self) -> None:
        message = "The gateway cannot write its log of what is used; try again shortly."
        super().__init__(Code.LEDGER_UNAVAILABLE, message, retry_after_s=1)


class LedgerEmptied(LedgerUnavailable):
    """Redis answers, but without the data that this gateway remembers: its zeros are not what was used."""

    told = True

    def __init__(self) -> None:
        super().__init__("The quota store came back without its data; it takes no requests until an operator decides.")


class InternalError(ApiError):
    """A bug of ours: the client learns no more than that, and the log has the rest."""

    def __init__(self) -> None:
        super().__init__(Code.INTERNAL_ERROR, "The gateway failed; what happened is in its log.")


class ShuttingDown(ApiError):
    """The gateway stops, and this request outlasted its drain."""

    def __init__(self) -> None:
        super().__init__(Code.NO_REPLICA, "The gateway is shutting down; try again.", retry_after_s=1)


def refusal(refused: Refused, needed: int) -> LimitRefused:
    """Return the error for what a limit refused, with that limit's own wait; `needed` is the least that was asked."""
    limit = refused.limit
    if refused.retry_after_us is None:
        message = (
            f"The request may need {needed} {limit.unit}; the limit `{limit.name}` never holds over {limit.amount}."
        )
        return LimitRefused(Code.TOKENS_EXCEED_PLAN, message, refused, needed=needed)
    retry_after_s = whole_seconds(refused.retry_after_us)
    message = (
        f"The limit `{limit.name}` of {limit.amount} is reached: it has {_left(refused)} left, and the request needs "
        f"{needed}; try again in {retry_after_s} s."
    )
    if limit.unit is Unit.CONCURRENT:
        code = Code.CONCURRENCY_LIMIT_EXCEEDED
    elif limit.per in (Per.DAY, Per.MONTH):
        code = Code.INSUFFICIENT_QUOTA
    else:
        code = Code.RATE_LIMIT_EXCEEDED
    return LimitRefused(code, message, refused, needed=needed, retry_after_s=retry_after_s)


def rejection(rejected: Rejected) -> ApiError:
    """Return the error for why a request has no turn."""
    wait_us = rejected.retry_after_us
    retry_after_s = None if wait_us is None else whole_seconds(wait_us)
    return ApiError(Code(rejected.reason), rejected.message, retry_after_s=retry_after_s)


def whole_seconds(us: int) -> int:
    """Return a wait in the whole seconds of `Retry-After`, rounded up and never below one."""
    return max(1, -(-us // 1_000_000))
