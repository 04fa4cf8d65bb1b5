"""
What operators see: metrics and logs.

- `definitions` is every metric, once; `metrics` counts what happens into them, by the `series` of their labels.
- `logs` writes one JSON line an event. Neither ever holds a prompt, an answer or a token.
"""
