"""
What a failed call to Redis means: a word for metrics, words of ours for everybody, and what Redis said for operators.

Rules: a refusal is known by the code that Redis begins its error with, or that a script's error quotes. What is none of
these is a fault of ours or of one key, and no outage.
"""

import re
from typing import NamedTuple, Self

from proxy.redis.socket import ErrorReply

SILENT = "no answer"
_LENGTH_MAX = 200
_WORDS = {
    "NOPERM": "the gateway's user may not do that",
    "NOAUTH": "it wants a password",
    "WRONGPASS": "it does not take the gateway's user and password",
    "OOM": "it is out of memory",
    "READONLY": "it is a replica, and takes no writes",
    "MISCONF": "it cannot save to its disk, and takes no writes",
    "LOADING": "it loads its data",
    "BUSY": "a script blocks it",
    "MASTERDOWN": "its primary is down",
    "NOREPLICAS": "too few replicas follow it",
    "CLUSTERDOWN": "the cluster is down",
    "MAXCLIENTS": "it has too many clients",
}
_CODE = re.compile(rf"\b({'|'.join(_WORDS)})\b")


class RedisRefusal(NamedTuple):
    """Why Redis did not do what it was asked."""

    reason: str
    """The code of its error in small letters, or `SILENT`; one of few."""
    words: str
    """For anybody."""
    said: str
    """What Redis or the system said, for operators."""

    @classmethod
    def of(cls, fault: BaseException) -> Self | None:
        """Read what went wrong; None for an error that says nothing of Redis as a whole."""
        said = (str(fault) or type(fault).__name__)[:_LENGTH_MAX]
        if "max number of clients" in said:
            said = f"MAXCLIENTS {said}"
        code = _CODE.search(said)
        if code is not None:
            return cls(code[0].lower(), f"Redis refuses ({code[0]}): {_WORDS[code[0]]}", said)
        return None if isinstance(fault, ErrorReply) else cls(SILENT, "Redis does not answer", said)
