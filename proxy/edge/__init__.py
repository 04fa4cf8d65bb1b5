"""
What stands between the socket and uvicorn: bounds, deadlines, and the shapes of a request that nobody honest sends.

The nouns, and where each lives:

| noun          | is                                                                              | lives in          |
|---------------|---------------------------------------------------------------------------------|-------------------|
| edge          | what the connections of one listener share                                      | `edge.py`         |
| connection    | one client's, from its first byte to its last: it puts the others together      | `guard.py`        |
| cycle         | one request and its answer; those of a connection are answered in their order   | `cycles.py`       |
| direct cycle  | one that is served without ASGI: what is forwarded to replicas, nothing else    | `direct_cycle.py` |
| parser        | bytes in; heads, parts of bodies and their ends out                             | `parser.py`       |
| head          | judged: what can be read in two ways is refused                                 | `head.py`         |
| forwarded     | where a client is behind proxies that are trusted                               | `forwarded.py`    |
| deadline      | when a head is late, a connection idle, a client behind with reading            | `deadlines.py`    |
| lingering     | how a connection ends without a reset                                           | `lingering.py`    |
| discarding    | what a refused client still sends, thrown away at one pace for all of them      | `discarding.py`   |
| refusal       | what a client is told whose request never became one                            | `refusal.py`      |
| connections   | how many are open, in all and from one address                                  | `connections.py`  |
| bodies        | how many bytes of them are held, over all connections                           | `bodies.py`       |

Bytes come in by `GuardedHttp.data_received`, which feeds the parser. The parser calls `request_begins`, and hands the
body to the cycle that it gets in return (`arrived`, `arrived_whole`); a cycle whose answer is out calls
`on_response_complete`, which begins the next. Parser, head, deadlines, lingering and discarding are objects of their
own, tested without uvicorn and without a socket.

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
