"""
Parts of the gateway as the config says them, each a block that `proxy/app.py` puts in its place: the store and its log
(`storage`), the replicas (`fleet`), and the process's file descriptors (`descriptors`).

And how another config takes the place of this one: `reload` reads it and has it taken in three steps, by this process
(`own_config`) or by all workers (`proxy/workers/team_config.py`); `followers` go by it and are no request.
"""
