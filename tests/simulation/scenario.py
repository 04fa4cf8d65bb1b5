"""What happens in a world, drawn from its seed: who asks what, and what breaks when."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from tests.simulation.client import Asks

BUSY_S = 40.0
"""How long clients arrive and things break."""
CLIENTS = 140
FAULTS = 14

CONFIG = """
auth.issuers = [{ issuer = "dev", algorithms = ["HS256"], development = true }]

[[models]]
name = "demo"
context_tokens = 4096
template_tokens = 20
default_completion = 48
min_completion = 8
endpoints = ["chat"]
replicas = [{ name = "a", url = "http://a", sequences = 48 }, { name = "b", url = "http://b", sequences = 48 }]

[plans.window]
limits = [
    { scope = "tenant", unit = "tokens", amount = 60_000, per = "day" },
    { scope = "user", unit = "tokens", amount = 9_000, per = "day" },
    { scope = "user", unit = "concurrent", amount = 6 },
]

[plans.rate]
limits = [
    { scope = "user", unit = "tokens", amount = 40_000, per = "minute" },
    { scope = "tenant", unit = "requests", amount = 100_000, per = "day" },
    { scope = "tenant", unit = "tokens", amount = 10_000_000, per = "month" },
]

[tenants]
acme.plans = ["window"]
globex.plans = ["rate"]

[[prices]]
model = "demo"
version = "7"
currency = "EUR"
prompt = 1_000_000
cached = 500_000
completion = 2_000_000

[limits]
ttft_s_max = 6
idle_s_max = 4
gone_s_max = 1
exchange_s_max = 25
body_s_max = 5
drain_s_max = 8
"""
TENANTS = ("acme", "globex")
USERS = ("ada", "bob")


class What(StrEnum):
    """The ways in which a world breaks."""

    KILL_GATEWAY = "kill_gateway"
    PAUSE_GATEWAY = "pause_gateway"
    STOP_GATEWAY = "stop_gateway"
    CUT_GATEWAY = "cut_gateway"
    KILL_REPLICA = "kill_replica"
    VANISH_REPLICA = "vanish_replica"
    """Drawn as every other death of a replica."""
    PAUSE_REPLICA = "pause_replica"
    BREAK_REPLICA = "break_replica"
    STOP_REDIS = "stop_redis"
    REFUSE_REDIS = "refuse_redis"
    BAD_NETWORK = "bad_network"


WEIGHTS = {
    What.KILL_GATEWAY: 3,
    What.PAUSE_GATEWAY: 3,
    What.STOP_GATEWAY: 1,
    What.CUT_GATEWAY: 2,
    What.KILL_REPLICA: 2,
    What.PAUSE_REPLICA: 1,
    What.BREAK_REPLICA: 4,
    What.STOP_REDIS: 2,
    What.REFUSE_REDIS: 2,
    What.BAD_NETWORK: 4,
}
LASTS_S = {What.PAUSE_GATEWAY: (0.5, 18.0), What.CUT_GATEWAY: (8.0, 22.0)}
"""How long they last; a cut mostly for longer than a heartbeat and a sweep."""
ENGINE_FAULTS = ("refuse", "http_500", "hang", "crash", "engine_dead", "abort")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that breaks, and for how long."""

    at_s: float
    what: What
    lasts_s: float
    place: int
    """Which of its kind; taken modulo their number."""


def faults(rng: random.Random) -> list[Fault]:
    """Return what breaks, in order."""
    drawn = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rng.randint(0, FAULTS))
    return sorted((_fault(rng, what) for what in drawn), key=lambda fault: fault.at_s)


def clients(rng: random.Random) -> Iterator[Asks]:
    """Yield who comes, in order."""
    for number, at_s in enumerate(sorted(rng.uniform(0, BUSY_S) for _ in range(rng.randint(CLIENTS // 2, CLIENTS)))):
        yield Asks(
            number=number,
            at_s=at_s,
            tenant=rng.choice(TENANTS),
            user=rng.choice(USERS),
            body=_body(rng),
            read_s=rng.choice((0, 0, 0, 0.05, 0.3)),
            leaves_s=rng.choice((None, None, None, rng.uniform(0, 0.05), rng.uniform(0, 6))),
            leaves_after=rng.choice((None, None, None, None, rng.randint(1, 20))),
            stalls_after=rng.choice((None,) * 9 + (rng.randint(0, 10),)),
            body_s=rng.choice((0, 0, 0, rng.uniform(0, 1), rng.uniform(0, 7))),
        )


def _body(rng: random.Random) -> dict[str, Any]:
    words = " ".join(rng.choice(("toll", "road", "lane", "bridge")) for _ in range(rng.randint(1, 60)))
    body: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": words}]}
    if rng.random() < 0.75:
        body["stream"] = True
        body["stream_options"] = {"include_usage": rng.random() < 0.5, "continuous_usage_stats": rng.random() < 0.3}
    if rng.random() < 0.7:
        body["max_tokens"] = rng.choice((1, 3, 20, 60, 200, 450))
    if rng.random() < 0.3:
        body["n"] = rng.randint(2, 3)
    if rng.random() < 0.5:
        body["ignore_eos"] = True
    return body


def _fault(rng: random.Random, what: What) -> Fault:
    lasts = LASTS_S.get(what, (0.2, 7.0))
    fault = Fault(at_s=rng.uniform(1, BUSY_S), what=what, lasts_s=rng.uniform(*lasts), place=rng.randrange(60))
    if what is What.KILL_REPLICA and fault.place % 4 < 2:
        return replace(fault, what=What.VANISH_REPLICA)
    return fault
