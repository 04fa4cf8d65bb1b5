"""
What stands between the socket and uvicorn: bounds, deadlines, and the shapes of a request that nobody honest sends.

`head.py` judges the head of a request (pure), `connections.py` counts connections, `bodies.py` counts the bytes of
bodies, and `guard.py` puts all of it into uvicorn's own protocol. `direct_cycle.py` is a request that is served without
ASGI: what is forwarded to replicas, and nothing else.

Decision: the gateway guards uvicorn's httptools protocol by a subclass of it.
Because its parser (llhttp) refuses most hostile framing already and is as fast as any server measured, and what it
lacks can be said in its own callbacks: a bound on the head, deadlines, one way to read a request that others could read
in two, and an answer in the API's words.
Instead of a proxy in front, without which nobody would be safe then, and behind which a client's hang-up cannot be told
from the proxy's own; or a server of our own, which would have to be trusted with every byte.
`tests/integration/test_guard.py` holds the subclass against the pinned version: every name of uvicorn's that it relies
on, and every shape over a real socket.

Decision: what is forwarded is served without ASGI.
Because a dictionary and a coroutine for each part of an answer, and a task that waits for a hang-up in `receive`,
double what the edge costs; a call that writes and a callback that tells cost next to nothing.
Instead of one way in for every path: the others are asked seldom, and keep all that Litestar does for them.
"""
