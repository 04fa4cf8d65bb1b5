"""
Tollway's gateway: it lets a request into a lane, takes the toll and picks the route.

`exchange.py` is the request's life in one function; `stages/` holds one file for each of its steps; `app.py` is the
composition root. What is decided is decided in `policies/` (pure); what is said to vLLM is said in `engine/`.
"""

__version__ = "0.1.0"
