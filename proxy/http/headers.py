"""
What the headers of an answer say: its id, where it comes from, and how its limits stand.

Limits are told twice: in OpenAI's `x-ratelimit-*` and the IETF's `RateLimit`.

Source: platform.openai.com/docs/guides/rate-limits; draft-ietf-httpapi-ratelimit-headers-10.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from policies.quota import Limit, LimitStatus, Per, Unit
from proxy.call import named
from proxy.exchange_state import ExchangeState

JSON = b"content-type: application/json\r\n"
EVENT_STREAM = b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
"""The last line keeps nginx from holding a stream back until it is whole."""

_WINDOW_S = {Per.SECOND: 1, Per.MINUTE: 60, Per.HOUR: 3_600, Per.DAY: 86_400, Per.MONTH: 31 * 86_400}
_TEMPLATES_MAX = 1_024
"""Of limits, whose lines are remembered; a plan has one."""


def lines(headers: Iterable[tuple[str, str]]) -> bytes:
    """Return headers as the lines of a head."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")


def exchange_headers(state: ExchangeState, refused: Sequence[LimitStatus] = (), *, early: bool = False) -> bytes:
    """
    Return the lines of every answer to a request that was read: id, limits, and the replica once there is one.

    `refused` says how the limits stand where they let nothing in. A head that goes out `early` names no replica: it may
    yet be another.
    """
    admitted, attempt = state.admitted, None if early else state.attempt
    told = f"x-request-id: {state.request_id}\r\n{_limits(admitted.statuses if admitted else refused)}"
    if attempt:
        told += f"x-tollway-replica: {attempt.replica.name}\r\nx-tollway-queue-ms: {state.queue_ms}\r\n"
    if (call := state.call) and call.ignored and (names := named(call.ignored)):
        told += f"x-tollway-ignored: {names}\r\n"
    if admitted and admitted.ours:
        told += f"x-tollway-max-completion: {admitted.max_completion}\r\n"
    return told.encode("latin-1")


def early_headers(state: ExchangeState) -> bytes:
    """Return the lines of a stream's head that goes out before its first frame."""
    return EVENT_STREAM + exchange_headers(state, early=True)


class _Template(NamedTuple):
    """What the lines for some limits are, but for how they stand."""

    units: tuple[tuple[tuple[int, str], ...], ...]
    """For OpenAI's form, of each unit: the place of each limit on it, and its lines."""
    all: str
    """The IETF's two lines."""


def _limits(statuses: Sequence[LimitStatus]) -> str:
    """Return the lines for how the limits of a request stand; of several limits on a unit, OpenAI's form binds."""
    if not statuses:
        return ""
    template = _template(*[status.limit for status in statuses])
    told = ""
    for places in template.units:
        place, line = places[0]
        if len(places) > 1:
            place, line = min(places, key=lambda each: _tightness(statuses[each[0]]))
        binding = statuses[place]
        told += line % (binding.remaining, duration(binding.reset_after_us))
    values: list[int] = []
    for status in statuses:
        values += (status.remaining, -(-status.reset_after_us // 1_000_000))
    return told + template.all % tuple(values)


def _tightness(status: LimitStatus) -> tuple[int, int]:
    return status.remaining, -status.reset_after_us


@lru_cache(_TEMPLATES_MAX)
def _template(*limits: Limit) -> _Template:
    units = (
        tuple((place, _openai(limit)) for place, limit in enumerate(limits) if limit.unit is unit)
        for unit in (Unit.REQUESTS, Unit.TOKENS)
    )
    policies = ", ".join(map(_policy, limits))
    status = ", ".join(f'"{limit.name}";r=%d;t=%d' for limit in limits)
    return _Template(tuple(filter(None, units)), f"ratelimit-policy: {policies}\r\nratelimit: {status}\r\n")


def _openai(limit: Limit) -> str:
    unit, amount = limit.unit, limit.amount
    return f"x-ratelimit-limit-{unit}: {amount}\r\nx-ratelimit-remaining-{unit}: %d\r\nx-ratelimit-reset-{unit}: %s\r\n"


def _policy(limit: Limit) -> str:
    window = f";w={_WINDOW_S[limit.per]}" if limit.per else ""
    return f'"{limit.name}";q={limit.amount};qu="{limit.unit}"{window}'


def duration(us: int) -> str:
    """Return a time as OpenAI writes it: `120ms`, `1.5s`, `6m0s`; rounded up to the millisecond."""
    ms = -(-us // 1_000)
    if ms < 1_000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    seconds = f"{ms / 1_000:g}s"
    if not minutes:
        return seconds
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}" if hours else f"{minutes}m{seconds}"
