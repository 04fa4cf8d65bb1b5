"""
Memory that the system has back once it is free.

glibc takes large blocks from the system one by one and gives each back; but whenever one was given back it takes blocks
of that size from its heap from then on, of which only the end is ever given back. A gateway that held a gigabyte of
bodies once keeps most of it for good.
"""

import ctypes

_MMAP_THRESHOLD = -3
"""`M_MMAP_THRESHOLD` of glibc's malloc.h."""
_BLOCK_BYTES = 128 * 1024
"""What glibc begins with."""


def give_back_large_blocks() -> None:
    """Have this process take large blocks from the system, and give them back, for as long as it lives."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other systems' allocators have no such memory
        mallopt(_MMAP_THRESHOLD, _BLOCK_BYTES)
