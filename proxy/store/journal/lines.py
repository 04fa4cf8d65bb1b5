"""
How an entry is written: `VERSION CRC32 PAYLOAD` and a line end; bytes in, entries out.

Rules:
- The version is that of the payload too (`proxy.versions`). From 3 on the checksum begins with its digits, so that a
  damaged 2 is never taken for a newer version, which is kept for a gateway that reads it.
- A payload has no line end in it, so that reading finds its way again behind a damaged line.
- Bytes behind the last line end are a write that a kill cut short: they were promised to nobody.
- A whole line that is not what was written is damage, and is told apart from that.
"""

from dataclasses import dataclass
from zlib import crc32

from proxy import versions


class Damaged(Exception):
    """This line is not what was written, or of a version that is not read any more."""


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
    newer: int
    """The highest version of lines that only a newer gateway reads; 0 where there are none."""
    end: int
    """Where the last whole line ends; what is behind it is torn."""


def line_of(payload: bytes) -> bytes:
    """Return the line of one entry."""
    return b"%b %08x %b\n" % (_VERSION, crc32(payload, _SEED), payload)


def payload_of(line: bytes) -> bytes:
    """
    Return the payload of one line.

    Raises: Damaged; proxy.versions.NewerVersion.
    """
    version, _, rest = line.partition(b" ")
    payload = rest[len("00000000 ") : -1]
    if not version.isdigit() or b"%b %08x %b\n" % (version, crc32(payload, _seed(version)), payload) != line:
        raise Damaged
    try:
        versions.check(int(version))
    except versions.NewerVersion:
        raise
    except ValueError as error:
        raise Damaged from error
    return payload


def scan(data: bytes) -> Scan:
    """Tell what stands in a segment."""
    entries: list[int] = []
    damaged: list[tuple[int, int]] = []
    start = newer = 0
    while end := data.find(b"\n", start) + 1:
        try:
            payload_of(data[start:end])
        except Damaged:
            damaged.append((start, end))
        except versions.NewerVersion as error:
            newer = max(newer, error.version)
        else:
            entries.append(start)
        start = end
    return Scan(tuple(entries), tuple(damaged), newer, start)


def _seed(version: bytes) -> int:
    return 0 if version == b"2" else crc32(version)


_VERSION = b"%d" % versions.WRITTEN
_SEED = _seed(_VERSION)
