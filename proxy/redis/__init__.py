"""
The way to Redis: one server, a primary behind sentinels, or a cluster. Must not know what is stored.

- A `client` is what the store calls; a `pipeline` sends the commands of one turn of the event loop together, over a
  `socket` to each server.
- What fails has one reading, a `refusal`, and one story in the log, an `outage`.
- The `topology` says which server answers for a key; that of a `cluster` has a file of its own. An `address` says where
  all of it begins.
- `embedded/` is a Redis of our own.

Decision: of redis-py no more than how a key's slot is computed, not even where no request waits for it.
Because the first two of these were tried with redis-py 8.1, and the third needs no trial:
- Sentinels asked by `redis.asyncio.sentinel` pass our tests, with 14 lines more than ours. Over TLS its contexts add
  `ca_file` to whom the system trusts, where `ca_file` must name who alone may vouch: a server is spoken to that shows a
  certificate of somebody else's. How often it tries again, and so how long it takes, differs from version to version.
- Slots asked by `redis.asyncio.cluster` take 23 lines less before TLS and users are added. But the first node that
  answers is believed, also one that was cut off and knows an old cluster (its test fails), and nodes are asked one
  after another: six that are silent cost six deadlines, where ours cost two.
- Commands of the CLI and revocations run the store's own functions, most of them one line each. On another client they
  would be written twice, and would fail over in a second way.
- The import alone takes a process 16 MB and 0.3 s of CPU, so it is left to clusters.
Instead of: two ways to Redis in one gateway.
"""
