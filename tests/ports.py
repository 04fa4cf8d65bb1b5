"""Ports of the loopback for servers that cannot choose their own, safe among the suites that run on one machine."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager

PORTS = range(20_000, 22_768)
"""They lie, as do those 10,000 above them, below what the kernel gives to whoever connects (32,768 and up)."""


@contextmanager
def claimed_port(*offsets: int) -> Iterator[int]:
    """
    Hold a port for the block that is free, as are those `offsets` above it.

    A claim is an abstract socket with the port's name: between the look and the server's start no other test takes the
    port, of whatever process, and the kernel ends the claim of who dies.
    """
    while True:
        port = random.choice(PORTS)
        with socket.socket(socket.AF_UNIX) as claim:
            try:
                claim.bind(f"\0tollway-test-port-{port}")
                for offset in (0, *offsets):
                    with socket.socket() as tried:
                        tried.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            yield port
            return
