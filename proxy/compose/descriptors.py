"""
The process's file descriptors: as many as it may have, and how many of them strangers may take.

Rule: the gateway's own (Redis, its disk, its replicas) are kept free. A process without a descriptor left resets
everybody who connects and reaches no replica, so strangers are told that there is no room before that.
"""

import logging
import resource

_OWN = 256
"""Redis, the disk, the listeners, health checks, the launched processes' pipes."""

_log = logging.getLogger(__name__)


def room_for_clients(wanted: int, upstream: int) -> int:
    """
    Raise the process's soft limit as far as needed and allowed; return for how many clients that is enough.

    Fewer than `wanted` is logged. `upstream` are the connections to replicas that may be open beside them.
    """
    needed = wanted + upstream + _OWN
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    room = max(1, soft - upstream - _OWN, soft // 2)
    reason = f"{needed} are needed and {soft} allowed: {min(wanted, room)} of {wanted} connections are let in"
    _log.warning("descriptors_short", extra={"reason": reason})
    return min(wanted, room)
