"""SIGBUS: what a program gets for a store into a mapped file whose disk fails.

Such a store has no return value. Where it fails, because the disk is full and the file system copies what it writes,
because another program has cut the file short, because the disk is broken, the kernel sends a signal that ends the
program: to the very thread and at the very instruction that stores. In our case that thread holds Python's lock, so a
handler may run Python there. It puts memory in the place of the file, and the store goes on in that; the one who has
stored looks at `MappedFile.failed`.

A SIGBUS that is not about one of our files goes to what the program had set before, by default its end. A program that
sets a handler of its own later than we do takes ours away until the next store is opened.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

from .mapped_files import MappedFile, files

#: `struct sigaction`: the handler, a mask of 1024 signals, flags, and a place for the C library's own; and where
#: `siginfo_t` has its code and its address. So they are on these machines, with glibc and with musl.
_MACHINES = ("x86_64", "aarch64")
_SIGBUS = 7  # `signal` would take a millisecond to import
_ACTION = struct.Struct("P128siP")
_SI_CODE, _SI_ADDRESS = 8, 16
_SA_SIGINFO = 4
_MAP_FIXED = 0x10

_libc = ctypes.PyDLL(None, use_errno=True)  # called with Python's lock
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
_libc.sigaction.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_char_p)

_interpreter = ctypes.pythonapi.PyInterpreterState_Get
_interpreter.restype = ctypes.c_void_p
ctypes.pythonapi.PyInterpreterState_GetID.argtypes = (ctypes.c_void_p,)
ctypes.pythonapi.PyInterpreterState_GetID.restype = ctypes.c_int64

_before = ctypes.create_string_buffer(_ACTION.size)


def _on_bus_error(number: int, info: int, _context: int) -> None:
    """When it returns, the instruction is tried again."""
    address = ctypes.c_size_t.from_address(info + _SI_ADDRESS).value
    try:
        for file in files:
            if not file.closed and 0 <= address - _place(file) < len(file):
                _put_memory_in_its_place(file)
                return
    except (OSError, MemoryError):
        pass
    _libc.sigaction(number, _before, None)
    if ctypes.c_int.from_address(info + _SI_CODE).value <= 0:  # sent by a process
        os.kill(os.getpid(), number)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(_on_bus_error)


def catch_bus_errors() -> None:
    """From now on a file of ours whose disk fails is memory. Idempotent.

    Not in a second interpreter of the process: there a handler would wait for a lock that its own thread holds.
    """
    if os.uname().machine not in _MACHINES or ctypes.pythonapi.PyInterpreterState_GetID(_interpreter()):
        return
    ours = _ACTION.pack(ctypes.cast(_handler, ctypes.c_void_p).value, b"", _SA_SIGINFO, 0)
    there = ctypes.create_string_buffer(_ACTION.size)
    _libc.sigaction(_SIGBUS, None, there)
    if there.raw[:8] != ours[:8]:
        _before.raw = there.raw
        _libc.sigaction(_SIGBUS, ours, None)


def _place(file: MappedFile) -> int:
    """Where in memory it begins."""
    return ctypes.addressof(ctypes.c_char.from_buffer(file))


def _put_memory_in_its_place(file: MappedFile) -> None:
    place, kind = _place(file), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
    if _libc.mmap(place, len(file), mmap.PROT_READ | mmap.PROT_WRITE, kind, -1, 0) != place:
        raise OSError(ctypes.get_errno(), "no memory in the place of a file")
    file.fail()
