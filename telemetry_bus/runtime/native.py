"""Modules as Python made them, where gevent or eventlet has put green ones in their place.

A thread that waits for ZeroMQ must be a real one, with real locks and real waiting; in a green world `threading` and
its like have neither. So a copy of a module is made from its source, which imports such copies in turn. As long as
nothing is patched the modules are the usual ones.
"""

from __future__ import annotations

import _thread
import builtins
import importlib.util
import time
from collections.abc import Callable
from types import BuiltinFunctionType, ModuleType
from typing import Any

#: What is made again where another of them, or a module besides, asks for it.
_MADE_AGAIN = ("_thread", "time", "select", "posix", "os", "threading", "selectors", "signal", "subprocess")
#: A green thread that waits looks so often.
_GREEN_LOOK_S = 0.005

_copies: dict[str, ModuleType] = {}


def green() -> bool:
    """Whether this program's threads are green: to sleep lets others run, and to wait for a real lock does not."""
    return not (isinstance(time.sleep, BuiltinFunctionType) and isinstance(_thread.allocate_lock, BuiltinFunctionType))


def native(name: str) -> Any:
    """A module, with real threads and real waiting below it."""
    if not green():
        return importlib.import_module(name)
    if name not in _copies:
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": _import}
        _copies[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del _copies[name]
            raise
    return _copies[name]


def _import(name: str, *rest: Any) -> Any:
    return native(name) if name in _MADE_AGAIN else builtins.__import__(name, *rest)


def wait(condition: Any, timeout: float) -> None:
    """As `Condition.wait`; in a green world the other green threads go on meanwhile."""
    if not green():
        condition.wait(timeout)
        return
    condition.release()
    try:
        time.sleep(min(timeout, _GREEN_LOOK_S))
    finally:
        condition.acquire()


def wait_for(condition: Any, predicate: Callable[[], Any], timeout: float) -> Any:
    """As `Condition.wait_for`; see `wait`."""
    if not green():
        return condition.wait_for(predicate, timeout)
    deadline = time.monotonic() + timeout
    while not (value := predicate()) and (left := deadline - time.monotonic()) > 0:
        wait(condition, left)
    return value
