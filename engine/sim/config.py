"""What one simulated replica is told at its start. Knows no defaults of the command line: these are they."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SimConfig:
    """A replica's size, speed and seed."""

    models: tuple[str, ...] = ("demo",)
    """Served model names; answers carry the first one, whichever was asked for."""

    seed: int = 0
    """The same seed and the same prompt give the same text."""

    max_model_len: int = 8192
    """Tokens of prompt and completion together. Range: 2 or more."""

    max_num_seqs: int = 64
    """Sequences that run at once; the others wait, first come first served. Range: 1 or more."""

    max_num_queued_reqs: int = 0
    """Requests refused as overload once this many sequences wait. 0: no limit."""

    prefill_us_per_token: int = 50
    """Microseconds per prompt token that the prefix cache did not have. 0: at once."""

    decode_us_per_token: int = 5_000
    """Microseconds per generated token of a sequence that runs alone. 0: as fast as the machine can."""

    slowdown_per_mille: int = 5
    """How much each further running sequence stretches every time above, in thousandths. 0: not at all."""

    block_size: int = 16
    """Tokens in one block of the prefix cache. Range: 1 or more."""

    num_blocks: int = 4096
    """Blocks that the prefix cache holds. 0: no prefix cache."""

    natural_tokens: int = 64
    """Mean length of a completion that nothing cuts; one completion is 0.5 to 1.5 times as long. Range: 1 or more."""
