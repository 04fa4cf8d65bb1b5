"""
Who lives on one Redis: gateways, and the data itself.

An `incarnation` is one start of a gateway, with a heartbeat. The `generation` of the data tells a Redis that lost it
from one in which nothing was used yet.
"""
