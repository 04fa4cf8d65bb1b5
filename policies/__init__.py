"""
Decisions, and nothing else: pure, synchronous, integers; no I/O, no clock, no randomness, no framework.

Time, randomness and ids are arguments. README.md beside this file tells each policy's question, inputs, rule and
source.
"""
