"""
Everything that knows vLLM: its wire, its usage frames, its health, how to start one and how to simulate one.

The rooms:
- `wire/` is the line to a replica: a client over a transport of connections.
- `protocols/` says what is asked and what is answered: request bodies, streams of **frames**, whole answers, and
  **usage**, which is what they say was used.
- `fleet/` has the **replicas**, the **pools** of a model's, their health, and how to start one.
- `sim/` is one, simulated.
- `runtime/` has what tasks and processes need, and knows no vLLM.
- `faults` are all the ways in which a replica fails.

Decision: a stream is read and cut by bytes, and parsed only where the bytes are not in vLLM's own writing.
Because: what goes on to the client stays what came, and parsing each frame would cost more than all else done to it.
Instead of: decoding every frame and writing it anew.

Decision: an answer is complete when the engine's own sum came, and not with its `[DONE]`.
Because: vLLM sends 200 and `[DONE]` after a crash, an abort and an overload too.
Instead of: believing the status.

Knows no tenants, no Redis and no web framework.
"""
