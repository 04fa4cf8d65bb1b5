"""
How an entry is written: `VERSION CRC32 PAYLOAD` and a line end; bytes in, entries out.

Rules:
- A payload has no line end in it, so that reading finds its way again behind a damaged line.
- Bytes behind the last line end are a write that a kill cut short: they were promised to nobody.
- A whole line that is not what was written is damage, and is told apart from that.
"""

from dataclasses import dataclass
from zlib import crc32

VERSION = b"2"
_PREFIX_BYTES = len(VERSION) + 1 + 8 + 1


class Damaged(Exception):
    """This line is not what was written."""


@dataclass(frozen=True, slots=True)
class Scan:
    """
    What stands in a segment.

    Units: bytes from the segment's beginning.
    """

    entries: tuple[int, ...]
    """Where each whole entry begins."""
    damaged: tuple[tuple[int, int], ...]
    """Where each damaged line begins and ends."""
    end: int
    """Where the last whole line ends; what is behind it is torn."""


def line_of(payload: bytes) -> bytes:
    """Return the line of one entry."""
    return b"%b %08x %b\n" % (VERSION, crc32(payload), payload)


def payload_of(line: bytes) -> bytes:
    """
    Return the payload of one line.

    Raises: Damaged, also for a line of a version that is not known.
    """
    payload = line[_PREFIX_BYTES:-1]
    if line_of(payload) != line:
        raise Damaged
    return payload


def scan(data: bytes) -> Scan:
    """Tell what stands in a segment."""
    entries: list[int] = []
    damaged: list[tuple[int, int]] = []
    start = 0
    while end := data.find(b"\n", start) + 1:
        try:
            payload_of(data[start:end])
        except Damaged:
            damaged.append((start, end))
        else:
            entries.append(start)
        start = end
    return Scan(tuple(entries), tuple(damaged), start)
