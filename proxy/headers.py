"""
What the headers of an answer say: its id, where it comes from, and how its limits stand.

Limits are told twice: in OpenAI's `x-ratelimit-*` and the IETF's `RateLimit`.

Source: platform.openai.com/docs/guides/rate-limits; draft-ietf-httpapi-ratelimit-headers-10.
"""

from collections.abc import Sequence

from policies.quota import Per, Standing, Unit
from proxy.downstream import Headers
from proxy.tally import Tally

JSON = ("content-type", "application/json")

_WINDOW_S = {Per.SECOND: 1, Per.MINUTE: 60, Per.HOUR: 3_600, Per.DAY: 86_400, Per.MONTH: 31 * 86_400}


def exchange_headers(tally: Tally) -> Headers:
    """Return the headers of every answer to a request that was read: id, limits, and the replica once there is one."""
    headers = [("x-request-id", tally.request_id), *rate_limit_headers(tally.standings)]
    if tally.replica:
        headers += [("x-tollway-replica", tally.replica), ("x-tollway-queue-ms", str(tally.queue_ms))]
    if tally.clamped:
        headers.append(("x-tollway-max-completion", str(tally.max_completion)))
    return headers


def rate_limit_headers(standings: Sequence[Standing]) -> Headers:
    """Return the headers for how the limits of a request stand; of several limits on a unit, OpenAI's form binds."""
    headers: Headers = []
    for unit in (Unit.REQUESTS, Unit.TOKENS):
        binding = min(
            (standing for standing in standings if standing.limit.unit is unit),
            key=lambda standing: (standing.remaining, -standing.reset_after_us),
            default=None,
        )
        if binding is not None:
            headers += [
                (f"x-ratelimit-limit-{unit}", str(binding.limit.amount)),
                (f"x-ratelimit-remaining-{unit}", str(binding.remaining)),
                (f"x-ratelimit-reset-{unit}", duration(binding.reset_after_us)),
            ]
    if standings:
        headers.append(("ratelimit-policy", ", ".join(map(_policy, standings))))
        headers.append(("ratelimit", ", ".join(map(_service_limit, standings))))
    return headers


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


def _policy(standing: Standing) -> str:
    limit = standing.limit
    window = f";w={_WINDOW_S[limit.per]}" if limit.per else ""
    return f'"{limit.name}";q={limit.amount};qu="{limit.unit}"{window}'


def _service_limit(standing: Standing) -> str:
    reset_s = -(-standing.reset_after_us // 1_000_000)
    return f'"{standing.limit.name}";r={standing.remaining};t={reset_s}'
