"""Hosts for a demonstration: network namespaces, each with a link of its own to this one. Only root can make them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

#: For tests of networks, so that nobody's are called so (RFC 2544).
_NETWORK = "198.18"
ACCESS = f"host all all {_NETWORK}.0.0/16 trust\n"


def address(number: int) -> str:
    """Where the host of this number, from 1 on, finds the server."""
    return f"{_NETWORK}.{number}.1"


@contextmanager
def made(count: int) -> Iterator[Sequence[str]]:
    """The names of so many namespaces; none where they cannot be made. They are gone at the end."""
    names = [f"tb{os.getpid()}h{number}" for number in range(1, count + 1)]
    begun: list[str] = []
    try:
        if os.geteuid() != 0 or shutil.which("ip") is None:
            yield []
            return
        try:
            for number, name in enumerate(names, 1):
                begun.append(name)
                _make(name, number)
        except subprocess.CalledProcessError as error:
            print(f"no network namespaces here ({error.stderr.decode().strip()}): two folders instead", flush=True)
            _remove(begun)
            yield []
            return
        yield names
    finally:
        _remove(begun)


def inside(name: str, command: Sequence[str]) -> list[str]:
    """A command in one of them."""
    return ["ip", "netns", "exec", name, *command]


def _make(name: str, number: int) -> None:
    _ip("netns", "add", name)
    _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
    _ip("address", "add", f"{address(number)}/24", "dev", name)
    _ip("link", "set", name, "up")
    _ip("-n", name, "address", "add", f"{_NETWORK}.{number}.2/24", "dev", "eth0")
    for link in ("eth0", "lo"):
        _ip("-n", name, "link", "set", link, "up")


def _remove(names: Sequence[str]) -> None:
    """With a namespace goes its link, both ends of it."""
    for name in names:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
