"""The search for processes, and interrupts that Python would drop."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ...support.processes import Interrupt, doing, running, send, state, writers_below, writers_of

ROOT = Path(__file__).parents[3]

#: An interrupt that comes between two instructions of a callback around a fork.
DROPPED = """
import os, signal, sys
from tests.support.processes import Interrupt

Interrupt.install()
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGTERM))
sys.unraisablehook = lambda dropped: print(dropped.exc_type.__name__)
try:
    if os.fork() == 0:
        os._exit(0)
    print("forked")
    Interrupt.check()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_that_python_drops_is_not_lost() -> None:
    """The loop that asks for it ends."""
    ended = subprocess.run(
        [sys.executable, "-P", "-c", DROPPED], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert ["KeyboardInterrupt", "forked", "interrupted"] == ended.stdout.split()


def test_an_interrupt_waits_for_what_must_not_be_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes when the outermost block that holds it is done."""
    monkeypatch.setattr(Interrupt, "came", False)
    done = []

    def work() -> None:
        with Interrupt.held():
            with Interrupt.held():
                Interrupt._take(signal.SIGINT, None)
                done.append("the inner block")
            done.append("the outer block")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert ["the inner block", "the outer block"] == done
    assert 0 == Interrupt.holds
    with pytest.raises(KeyboardInterrupt):
        Interrupt._take(signal.SIGINT, None)


@pytest.mark.integration
def test_a_process_is_found_by_its_words(tmp_path: Path) -> None:
    """All of them, and whole ones where they are given with their ends; one that has ended is not found."""
    url = f"sqlite:///{tmp_path}/x.db"
    words = ["writer_daemon", "--database", url]
    with subprocess.Popen([sys.executable, "-c", "input()", *words], stdin=subprocess.PIPE, text=True) as process:
        try:
            assert [process.pid] == writers_of(url) == writers_below(tmp_path) == [*running(f"\0{url}\0")]
            assert [] == writers_of(url[:-1]) == writers_below(tmp_path / "x")
            assert {} == running(url, "another word")
            assert state(process.pid) in "RSD"
            assert doing(process.pid)[0] in "RSD"
        finally:
            process.communicate("\n")
    assert [] == writers_of(url)
    assert ("X", "gone", False) == (state(process.pid), doing(process.pid), send(process.pid, signal.SIGCONT))
