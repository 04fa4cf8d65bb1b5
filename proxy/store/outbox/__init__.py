"""
Ends on their way to Redis: an `end` is a settle or a release, the `outbox` sends it or owes it, and `replay` sends
again what the journal holds and Redis does not.
"""
