"""Whose a stream is: its name is the digest of a secret, and only its producer can name a connection by that secret.

Everybody in the bus's group sees the names of streams, as those of their journals. The secret goes to the writer alone,
as the identity of the producer's connection (https://libzmq.readthedocs.io/en/latest/zmq_setsockopt.html,
ZMQ_ROUTING_ID), and needs no place in any message.
"""

from __future__ import annotations

import os

from .records import STREAM_BYTES

try:
    from _blake2 import blake2b  # alone; `hashlib` takes 3 ms and a megabyte
except ImportError:
    from hashlib import blake2b


def new_secret() -> bytes:
    """A connection's identity does not begin with a zero: such names are ZeroMQ's own."""
    return b"S" + os.urandom(STREAM_BYTES)


def stream_of(secret: bytes) -> bytes:
    """The name of the stream that belongs to a secret."""
    return blake2b(secret, digest_size=STREAM_BYTES).digest()
