"""
A Redis of our own, with its data on disk: the `server`, the `binary` it runs, the
`local_socket` it listens on, the `lock` on its folder.
"""
