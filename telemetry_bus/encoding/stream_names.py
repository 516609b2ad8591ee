"""Whose a stream is: its name is the digest of a secret, which only its producer and the writer know.

Everybody in the bus's group sees the names of streams, as those of their journals. The secret goes to the writer alone:
as the identity of the producer's connection (https://libzmq.readthedocs.io/en/latest/zmq_setsockopt.html,
ZMQ_ROUTING_ID), and behind the header of each message of jobs. A mark in the name tells that the secret must be shown:
the streams of 0.1.0 have random names, and none.
"""

from __future__ import annotations

import os

from .records import STREAM_BYTES

try:
    from _blake2 import blake2b  # alone; `hashlib` takes 3 ms and a megabyte
except ImportError:
    from hashlib import blake2b


SECRET_BYTES = 1 + STREAM_BYTES
_MARK = b"\xffOWN"


def new_secret() -> bytes:
    """A connection's identity does not begin with a zero: such names are ZeroMQ's own."""
    return b"S" + os.urandom(STREAM_BYTES)


def stream_of(secret: bytes) -> bytes:
    """The name of the stream that belongs to a secret."""
    return blake2b(secret, digest_size=STREAM_BYTES - len(_MARK)).digest() + _MARK


def is_owned(stream: bytes) -> bool:
    """Whether the stream has a secret."""
    return stream.endswith(_MARK)
