"""
What replicas are asked and what they answer: bodies, streams, and the usage in both.

Must not know sockets, nor which replica it is.
"""
