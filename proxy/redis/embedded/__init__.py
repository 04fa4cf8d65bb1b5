"""
A Redis of our own, with its data on disk: the `server`, the `local_socket` it listens on, the `lock` on its folder.
"""
