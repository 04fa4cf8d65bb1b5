"""A script that Redis runs, and the name by which it knows it."""

from dataclasses import dataclass, field
from hashlib import sha1


@dataclass(frozen=True, slots=True)
class Script:
    """One script, known to Redis by the SHA-1 of its text."""

    name: str
    """What `tollway_redis_seconds{op}` calls it."""
    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        """Compute the name that EVALSHA takes."""
        object.__setattr__(self, "sha", sha1(self.text.encode(), usedforsecurity=False).hexdigest())
