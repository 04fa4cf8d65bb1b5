"""
The way to Redis: one server, a primary behind sentinels, or a cluster. Must not know what is stored.

- A `client` is what the store calls; a `pipeline` sends the calls of one turn of the event loop together, over a
  `socket` to each server.
- The `topology` says which server answers for a key; that of a `cluster` has a file of its own. An `address` says where
  all of it begins.
- `embedded/` is a Redis of our own.
"""
