"""
One simulated vLLM replica: the wire of vLLM 0.32.0 without the model.

Five nouns: a **job** is one request, checked and tokenized (`job`); it becomes `prompts x n` **sequences**, each of
which yields **steps**, a token at a time (`sequence`); the **engine** gives sequences their slots and their time
(`engine`, with `latency` and `prefix_cache`); a **wire** turns steps into vLLM's bytes (`wire`, `chat_wire`,
`completion_wire`); a **fault** makes one of these fail the way vLLM fails (`faults`). `app` is the ASGI callable that
joins them, `server` the process around it.

For tests and demos that want a replica's usage counts, prefix cache, queueing, latency and ways of dying, in under a
second and without a GPU. The recorded transcripts in `tests/data/` are its specification.

Decision: uvicorn and a dict of routes. Because vLLM itself is served by uvicorn, so that framing, keep-alive and
disconnects are the real ones; instead of a web framework, which would cost start-up time and add nothing.

Decision: one timer per sequence and step. Because a disconnect then is the cancellation of a task; instead of one
global step clock, which is nearer to vLLM's batches but lets no sequence have its own pace.
"""
