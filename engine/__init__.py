"""
Everything that knows vLLM: its wire, its usage frames, its health, how to start one and how to simulate one.

Knows no tenants, no Redis and no web framework.
"""
