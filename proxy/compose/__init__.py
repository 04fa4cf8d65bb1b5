"""
Parts of the gateway as the config says them, each a block that `proxy/app.py` puts in its place: the store and its log
(`storage`), the replicas (`fleet`), and the process's file descriptors (`descriptors`).
"""
