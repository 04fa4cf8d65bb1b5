"""A record of an exchange as most of them are; a test replaces what it is about."""

from proxy.billing.record import ExchangeRecord, Source

RECORD = ExchangeRecord(
    request_id="01JD0000000000000000000000",
    incarnation="01JC0000000000000000000000",
    tenant="acme",
    user="ada",
    plan="pro",
    lane="interactive",
    model="demo",
    replica="demo-0",
    group="",
    endpoint="chat",
    n=1,
    started_at=1_000_000,
    finished_at=3_000_000,
    prompt_tokens=120,
    cached_tokens=32,
    completion_tokens=11,
    source=Source.ENGINE,
    outcome="ok",
    stream=True,
    queue_ms=40,
    ttft_ms=500,
    price_version="2026-11",
    charge_picos=777_000_000,
    currency="USD",
    attempts=1,
    wasted_tokens=0,
    reasoning_tokens=0,
    client_request_id="",
)
