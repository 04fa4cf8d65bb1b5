"""
How long a replica takes: prefill by uncached prompt tokens, decode by generated tokens, both slower in company.

Pure: no clock, no sleeping. The model is linear on purpose, so that a test can compute what it waits for.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """
    Times of one replica.

    Units: microseconds per token, thousandths per further running sequence.
    """

    prefill_us_per_token: int
    decode_us_per_token: int
    slowdown_per_mille: int

    def prefill_us(self, uncached_tokens: int, running: int) -> int:
        """Return the time until a prompt is computed, with `running` sequences in the batch (this one included)."""
        return self._stretched(self.prefill_us_per_token * uncached_tokens, running)

    def decode_us(self, running: int) -> int:
        """Return the time from one token of a sequence to its next."""
        return self._stretched(self.decode_us_per_token, running)

    def _stretched(self, alone_us: int, running: int) -> int:
        return alone_us * (1000 + self.slowdown_per_mille * max(0, running - 1)) // 1000
