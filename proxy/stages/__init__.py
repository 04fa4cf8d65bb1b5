"""
The steps of an exchange, one file a step: authenticate, admit, turn, relay, settle, meter.

A stage is built once with what it needs and called once a request; only `proxy/exchange.py` puts stages together.
What a stage acquires it hands out as a context manager, so that letting go stands where taking stands.
"""
