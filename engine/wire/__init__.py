"""
The line to a replica: bytes out, bytes in, and every failure as one of `engine.faults`.

`client` asks and is answered, with a replica's `credentials`, over the `transport`, which keeps `connection`s open;
`sse` splits a stream into frames.
The only importer of httpx in the engine. Must not know what the bytes ask for.
"""
