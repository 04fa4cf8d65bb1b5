"""The ways in which the write-ahead log fails."""

from enum import StrEnum


class Failure(StrEnum):
    """The `kind` of `tollway_journal_failures_total`."""

    WRITE = "write"
    """The disk took nothing."""
    REMOVED = "removed"
    """Somebody removed it while its gateway ran; it was made again."""
    DAMAGE = "damage"
    """What stands there is not what was written."""
    NEWER = "newer"
    """What stands there was written by a newer gateway, and waits for one."""
