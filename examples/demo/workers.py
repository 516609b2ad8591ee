"""The worker processes: they share one list of files, and one counter of the files that are taken."""

from __future__ import annotations

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_long
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from threading import Event
from time import monotonic, perf_counter

from .corpus import SourceFile
from .extraction import extract
from .recording import Recorder

#: How often the progress is shown while the processes work.
_SHOW_EVERY_S = 0.1


@dataclass(frozen=True, slots=True)
class Tally:
    """What one process, or all of them, did: files recorded, and the time the recording calls took."""

    records: int = 0
    lock_errors: int = 0
    recording_s: float = 0.0
    worst_s: float = 0.0

    @property
    def mean_s(self) -> float:
        """What one recording call took on average."""
        return self.recording_s / self.records if self.records else 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.records + other.records,
            self.lock_errors + other.lock_errors,
            self.recording_s + other.recording_s,
            max(self.worst_s, other.worst_s),
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run of the job. `seconds` end when the last record is committed."""

    tally: Tally
    seconds: float
    was_interrupted: bool
    failed_workers: int


def run(
    new_recorder: Callable[[], Recorder],
    files: Sequence[SourceFile],
    operation_id: str,
    workers: int,
    show: Callable[[int], None],
) -> Outcome:
    """Extract and record all `files` with `workers` processes; `show` is told how many are taken.

    An interrupt lets every process finish the file it is at and commit what it has recorded; a second one raises
    `KeyboardInterrupt`.
    """
    context = multiprocessing.get_context("spawn")
    taken: Synchronized[int] = context.Value(c_long, 0)
    tallies: SimpleQueue[Tally] = context.SimpleQueue()
    stop = Event()

    def interrupted(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    began = monotonic()
    processes = [
        context.Process(target=_work, args=(new_recorder, files, operation_id, taken, tallies), daemon=True)
        for _ in range(workers)
    ]
    with _on_interrupt(signal.SIG_IGN):  # the processes inherit it: an interrupt is for this process alone
        for process in processes:
            process.start()
    with _on_interrupt(interrupted):
        while alive := [process.sentinel for process in processes if process.is_alive()]:
            if stop.is_set():
                taken.value = len(files)
            else:
                show(min(taken.value, len(files)))
            wait(alive, _SHOW_EVERY_S)
    if not stop.is_set():
        show(min(taken.value, len(files)))
    seconds, tally = monotonic() - began, Tally()
    while not tallies.empty():
        tally += tallies.get()
    return Outcome(tally, seconds, stop.is_set(), sum(process.exitcode != 0 for process in processes))


def _work(
    new_recorder: Callable[[], Recorder],
    files: Sequence[SourceFile],
    operation_id: str,
    taken: Synchronized[int],
    tallies: SimpleQueue[Tally],
) -> None:
    warnings.simplefilter("ignore")  # those of the sources that are parsed
    recorder, tally = new_recorder(), Tally()
    try:
        while (index := _take(taken)) < len(files):
            metrics = extract(files[index], operation_id)
            began = perf_counter()
            recorder.record(metrics)
            took = perf_counter() - began
            tally += Tally(1, recording_s=took, worst_s=took)
    finally:
        recorder.close()
        tallies.put(tally + Tally(lock_errors=recorder.lock_errors))


def _take(taken: Synchronized[int]) -> int:
    with taken.get_lock():
        index = taken.value
        taken.value = index + 1
    return index


@contextmanager
def _on_interrupt(action: Callable[..., None] | signal.Handlers) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
