"""The latency model is linear: a test can compute what it waits for."""

from engine.sim.latency import LatencyModel

MODEL = LatencyModel(prefill_us_per_token=100, decode_us_per_token=20_000, slowdown_per_mille=10)


def test_alone_a_sequence_takes_the_configured_times() -> None:
    assert MODEL.prefill_us(1000, running=1) == 100_000
    assert MODEL.decode_us(running=1) == 20_000


def test_each_further_sequence_stretches_both() -> None:
    assert MODEL.decode_us(running=11) == 22_000
    assert MODEL.prefill_us(10, running=2) == 1010


def test_what_is_cached_costs_nothing() -> None:
    assert MODEL.prefill_us(0, running=64) == 0
