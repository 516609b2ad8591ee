"""Deliberate defects, each a small change of the text of a function; the simulation must find every one."""

from __future__ import annotations
import __future__

import inspect
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import pytest

from telemetry_bus.database.ledger import Ledger
from telemetry_bus.encoding import records
from telemetry_bus.journal import orphan
from telemetry_bus.journal.orphan import OrphanJournal
from telemetry_bus.journal.ring import Journal
from telemetry_bus.producer.outbox import Outbox
from telemetry_bus.protocol.producer import ProducerProtocol
from telemetry_bus.protocol.writer import WriterProtocol
from telemetry_bus.runtime import locks as instance
from telemetry_bus.writer.adoption import Adopter
from telemetry_bus.writer.intake import Intake


@dataclass(frozen=True)
class Change:
    """In the function `owner.name`, of each pair the second text in the place of the first, which stands there once."""

    owner: Any
    name: str
    pairs: tuple[tuple[str, str], ...]

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        function = getattr(self.owner, self.name)
        text = dedent(inspect.getsource(function))
        for old, new in self.pairs:
            if text.count(old) != 1:
                raise ValueError(f"{self.name} has changed, and so must this mutation: {old!r}")
            text = text.replace(old, new)
        flags = __future__.annotations.compiler_flag
        code = compile(text, f"mutated {self.name}", "exec", flags, dont_inherit=True)
        namespace: dict[str, Any] = {}
        exec(code, getattr(function, "__func__", function).__globals__, namespace)
        patch.setattr(self.owner, self.name, namespace[self.name])


@dataclass(frozen=True)
class Mutation:
    """A defect in words, and how it is made. Those that only waste need worlds in which only messages are lost."""

    words: str
    changes: tuple[Change, ...]
    only_loss: bool = False

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        for change in self.changes:
            change.apply(patch)


def _mutation(words: str, owner: Any, name: str, *texts: str, only_loss: bool = False) -> Mutation:
    return Mutation(words, (_change(owner, name, *texts),), only_loss)


def _change(owner: Any, name: str, *texts: str) -> Change:
    return Change(owner, name, tuple(zip(texts[::2], texts[1::2], strict=True)))


MUTATIONS = [
    # the writer
    Mutation(
        "the ledger is neither read at the first sight of a stream nor asked by a batch",
        (
            _change(WriterProtocol, "_stream", "self._ledger.last_sequences([name]).get(name, 0)", "0"),
            _change(Ledger, "advance", "if changed != len(moves):", "if False:"),
        ),
    ),
    _mutation(
        "what is received is acknowledged before it is committed",
        WriterProtocol,
        "_state",
        "committed = stream.committed",
        "committed = stream.received",
    ),
    _mutation(
        "a goodbye deletes the ledger's row",
        WriterProtocol,
        "control",
        "self.end(name)",
        "self.end(name) or self._ledger._ground.ledger.pop(name, None)",
    ),
    _mutation(
        "a gap is ignored: what comes behind it is applied",
        WriterProtocol,
        "jobs",
        "if not defined or message.first > stream.received + 1:",
        "if not defined:",
        "skip = stream.received + 1 - message.first",
        "skip = max(0, stream.received + 1 - message.first)",
    ),
    _mutation(
        "duplicates are applied again",
        WriterProtocol,
        "jobs",
        "if last <= stream.received:",
        "if False:",
        "skip = stream.received + 1 - message.first",
        "skip = 0",
    ),
    _mutation(
        "a message that overlaps what is known is applied as a whole",
        WriterProtocol,
        "jobs",
        "skip = stream.received + 1 - message.first",
        "skip = 0",
    ),
    _mutation(
        "jobs whose definitions are unknown are dropped as poison",
        WriterProtocol,
        "jobs",
        "if not defined or message.first > stream.received + 1:",
        "if not defined and message.first == stream.received + 1:\n"
        "        stream.received = stream.committed = last\n"
        "        return\n"
        "    if not defined or message.first > stream.received + 1:",
    ),
    _mutation(
        "a stream is forgotten while jobs of it are pending",
        WriterProtocol,
        "forget",
        "stream.received == stream.committed and ",
        "",
    ),
    _mutation(
        "a stream is forgotten while its journal is adopted",
        WriterProtocol,
        "forget",
        " and name != self.adopting",
        "",
    ),
    _mutation(
        "a failure is reported once, and not until it is confirmed",
        WriterProtocol,
        "_state",
        "stream.failed = bool(failures)",
        "stream.failed = False",
    ),
    _mutation(
        "a new writer does not report what failed before it",
        WriterProtocol,
        "_hello",
        "stream.failed = True",
        "pass",
    ),
    _mutation(
        "jobs are acknowledged whose failures did not fit into the answer",
        WriterProtocol,
        "_state",
        "committed = min(committed, failures.pop().sequence - 1)",
        "failures.pop()",
    ),
    _mutation(
        "a producer's watermark is not compared with the ledger",
        WriterProtocol,
        "watermark",
        "if trimmed <= stream.committed or stream.received != stream.committed:",
        "if True:",
    ),
    _mutation(
        "every message behind a gap asks for a resend",
        WriterProtocol,
        "_ask_resend",
        " and message.rewind > stream.rewind_answered",
        "",
        only_loss=True,
    ),
    _mutation(
        "jobs count as decided before they are committed",
        Intake,
        "commit",
        "failures, rest = self.writer.settle(runs)",
        "self.protocol.decided([], runs); failures, rest = self.writer.settle(runs)",
    ),
    _mutation(
        "a batch is given up when the database is at fault",
        Intake,
        "degrade",
        "self.fault = fault",
        "self.fault = fault; self.protocol.decided([], self.protocol.pending)",
    ),
    _mutation(
        "a second writer does not mind the lock",
        instance,
        "try_lock",
        "fcntl.flock(fd, kind | fcntl.LOCK_NB)",
        "pass",
    ),
    # the fence
    _mutation(
        "a batch is applied wherever the ledger stands",
        Ledger,
        "advance",
        "if changed != len(moves):",
        "if False:",
    ),
    _mutation(
        "a batch of a stream without a row is applied without a look",
        Ledger,
        "advance",
        "changed += self._connection.own_many(_BEGIN, fresh) if fresh else 0",
        "changed += len(fresh)",
    ),
    _mutation(
        "a batch that met the fence is taken for committed",
        Intake,
        "_met_fence",
        "self._look_again()",
        "self.protocol.decided([])",
    ),
    _mutation(
        "a ledger that went back is taken for one that stands",
        WriterProtocol,
        "look_again",
        "if behind:",
        "if False:",
    ),
    _mutation(
        "jobs that are settled and not acknowledged are given up when the ledger goes back",
        WriterProtocol,
        "_begin_again",
        "known, self._streams = self._streams, {}",
        "known, self._streams = self._streams, {}\n"
        "    [self._ledger.raise_watermark(name, stream.committed) for name, stream in known.items()]",
    ),
    _mutation(
        "an orphan is not read once more when the ledger has moved",
        Adopter,
        "_notice_new_beginning",
        "self._put_back(self._current)",
        "pass",
    ),
    _mutation(
        "streams that are not over are pruned from the ledger",
        Ledger,
        "prune",
        "self._connection.own(_OLD,",
        'self._connection.own(_OLD.replace("ended = 1", "1"),',
    ),
    _mutation(
        "what was pending is still applied after the ledger has gone back",
        WriterProtocol,
        "_begin_again",
        "    self._drop_pending()\n",
        "",
    ),
    _mutation(
        "a stream that is silent counts as over, and is pruned",
        WriterProtocol,
        "expire",
        "self.forget(name)",
        "self.end(name)",
    ),
    _mutation(
        "jobs that are gone are told of, and the ledger stays where it is",
        WriterProtocol,
        "watermark",
        "self._ledger.raise_watermark(name, trimmed)",
        "pass",
    ),
    # the batch
    _mutation(
        "a portion passes over a run that is too long for it",
        WriterProtocol,
        "portion",
        "taken = run.payloads[: left[run.stream]]",
        "taken = run.payloads if len(run.payloads) <= left[run.stream] else run.payloads[:0]",
    ),
    _mutation(
        "what is put off to the next batch counts as committed",
        WriterProtocol,
        "decided",
        "committed.update((run.stream, run.first - 1) for run in reversed(rest))",
        "pass",
    ),
    _mutation(
        "a run of which a part is committed stays pending as a whole",
        WriterProtocol,
        "decided",
        "left for run in self.pending if (left := _behind(run, committed.get(run.stream, 0))) is not None",
        "run for run in self.pending if run.last > committed.get(run.stream, 0)",
    ),
    _mutation(
        "a batch that a process waits for is gathered",
        Intake,
        "due_in",
        "if self._patient else 0.0",
        "if True else 0.0",
    ),
    # linger
    _mutation(
        "jobs that a process waits for are gathered",
        ProducerProtocol,
        "_sends_behind",
        " or self.wanted > number",
        "",
    ),
    _mutation(
        "jobs that a process waits for are sent as if none did",
        ProducerProtocol,
        "next_slice",
        "self.wanted <= start[0] and ",
        "",
    ),
    # the producer
    _mutation(
        "a writer with a new epoch is not believed",
        ProducerProtocol,
        "_welcome",
        "if message.epoch != self.epoch:",
        "if self.epoch and message.epoch != self.epoch:\n        return []\n    if message.epoch != self.epoch:",
    ),
    Mutation(
        "a new epoch is taken, and nothing is sent again",
        (
            _change(ProducerProtocol, "_welcome", "self._go_back(message.received, now)\n        return", "return"),
            _change(ProducerProtocol, "_go_back", "self._sent = sum(", "sum("),
        ),
    ),
    _mutation(
        "answers without progress are not followed by a resend",
        ProducerProtocol,
        "_welcome",
        "if message.received == self._asked_received:",
        "if False:",
    ),
    _mutation(
        "definitions are not sent again after a rewind",
        ProducerProtocol,
        "_go_back",
        "self._definitions_sent = (0, 0)",
        "pass",
    ),
    _mutation(
        "the journal is trimmed to what is received",
        ProducerProtocol,
        "_advance",
        "self._ends[0][0] <= message.committed",
        "self._ends[0][0] <= message.received",
    ),
    _mutation(
        "a failure that is known is reported again",
        ProducerProtocol,
        "_advance",
        " if failure.sequence > self._confirmed]",
        "]",
    ),
    _mutation(
        "jobs are gathered for ever",
        ProducerProtocol,
        "look",
        "self._due_to = tail[0]",
        "pass",
    ),
    _mutation(
        "the window is ignored",
        ProducerProtocol,
        "_sends_behind",
        "if self._sent and offset - self.acknowledged[1] >= self._window:",
        "if False:",
    ),
    # the journal
    _mutation(
        "a full ring is written over",
        Journal,
        "append",
        "if end > self._free_to:",
        "if False:",
    ),
    _mutation(
        "a journal is deleted with jobs pending",
        Outbox,
        "release",
        "if self.pending:",
        "if False:",
    ),
    _mutation(
        "what is settled before its message is sent stays in the journal",
        Outbox,
        "settle",
        " and acknowledged[0] <= self.journal.trimmed[0]",
        "",
    ),
    _mutation(
        "a torn watermark is believed",
        orphan,
        "read_watermark",
        "any(raw) and checksum == crc32(raw)",
        "any(raw)",
    ),
    _mutation(
        "the checksum of a record is ignored",
        records,
        "_scan",
        " or checksum != crc32(data[start:end], seed & 0xFFFFFFFF)",
        "",
    ),
    Mutation(
        "the checksum does not depend on the number: what lay in the ring a lap ago counts",
        (
            _change(records, "_scan", "crc32(data[start:end], seed & 0xFFFFFFFF)", "crc32(data[start:end])"),
            _change(Journal, "append", "crc32(record, sequence & 0xFFFFFFFF)", "crc32(record)"),
        ),
    ),
    _mutation(
        "a journal that is made again is empty",
        Journal,
        "renew",
        "lost[:]",
        "lost[:PAGE_BYTES]",
    ),
    _mutation(
        "a journal that is made again has no lock",
        Journal,
        "_create",
        "try_lock(self._lock_fd)",
        "pass",
    ),
    # adoption
    _mutation(
        "a journal is adopted without a look at its lock",
        OrphanJournal,
        "claim",
        "fd = lock_file(path)",
        "fd = os.open(path, os.O_RDWR)",
    ),
    _mutation(
        "an adopted journal is applied without a look at the ledger",
        Adopter,
        "_begin",
        "gone = self._intake.protocol.watermark(journal.stream, journal.trimmed[0], ",
        "gone, stream = 0, self._intake.protocol._stream(journal.stream, time.monotonic())\n"
        "        stream.received = stream.committed = journal.trimmed[0]\n        print(end='') if True else (0, ",
    ),
    _mutation(
        "an adopted journal is deleted before its jobs are committed",
        Adopter,
        "step",
        "if not self._intake.protocol.settled(adoption.journal.stream):",
        "if False:",
    ),
    _mutation(
        "a journal is deleted when the database is at fault as its adoption begins",
        Adopter,
        "_begin",
        "as fault:\n        journal.close()",
        "as fault:\n        journal.delete()",
    ),
    _mutation(
        "adoption deletes the ledger's row",
        Adopter,
        "_finish",
        "leave(journal.stream)",
        "leave(journal.stream) or self._intake.writer._ground.ledger.pop(journal.stream, None)",
    ),
]
