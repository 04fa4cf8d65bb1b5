"""
The replicas: what is in flight on each, whether it may be given work, and how one is started.

A `replica` is one vLLM; a `pool` has those of one model, the `fleet` those of all models as they come and go; `health`
asks each whether it lives, and `served` by which names it does; `trouble` says what is wrong with one; `abort` tells
one to give a request up; `launch` runs replicas on this machine, by a `command` for each kind of engine.
"""
