"""
Everything that knows vLLM: its wire, its usage frames, its health, how to start one and how to simulate one.

The nouns:
- A **replica** is one vLLM and what is in flight on it (`replica`); a **pool** is those of one model (`pool`); `health`
  says whether they may be given work.
- An **inquiry** is a request as far as the gateway needs to know it (`openai`, with `bounds`, `prompt`, `media`,
  `normal`).
- A **stream** turns bytes into **frames** (`sse`, `chunk`, `stream`), an **answer** comes in one piece (`answer`), and
  **usage** is what they say was used (`usage`).
- **Upstream** is the way to a replica (`client`, over a `transport` of `connection`s), its failures are `faults`, and
  `abort` tells it to give a request up.
- A **child** is a process of ours (`process`, `tether`); `keeper` starts it again; `launch` runs replicas (`command`),
  and `sim/` is one.
- `background` and `shielding` are what tasks need to begin, end and let go properly.

Decision: a stream is read and cut by bytes, and parsed only where the bytes are not in vLLM's own writing.
Because: what goes on to the client stays what came, and parsing each frame would cost more than all else done to it.
Instead of: decoding every frame and writing it anew.

Decision: an answer is complete when the engine's own sum came, and not with its `[DONE]`.
Because: vLLM sends 200 and `[DONE]` after a crash, an abort and an overload too.
Instead of: believing the status.

Knows no tenants, no Redis and no web framework.
"""
