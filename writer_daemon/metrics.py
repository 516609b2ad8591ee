"""`--metrics HOST:PORT`: the writer's figures for Prometheus, over HTTP.

The main loop takes them about once a second and publishes them as one immutable object. The threads that answer HTTP
read nothing else, so that no scraper, however slow, meets the database or the loop.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from telemetry_bus import __version__
from telemetry_bus.database.stats import HistogramSnapshot
from telemetry_bus.errors import ConfigError, JournalCorrupt
from telemetry_bus.journal.dropped import dropped_jobs
from telemetry_bus.journal.layout import DROPPED, PAGE_BYTES, TAIL, Header, lock_file, read_watermark
from telemetry_bus.runtime.files import open_inside
from telemetry_bus.runtime.folder import BusFolder

from .status import WriterStatus

try:
    from prometheus_client import CollectorRegistry, ProcessCollector, make_wsgi_app
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
    from prometheus_client.registry import Collector
except ImportError:
    raise ConfigError(
        "the library prometheus-client is not installed",
        operation="--metrics",
        hint="pip install 'telemetry-bus[metrics]'",
    ) from None

logger = logging.getLogger("telemetry_bus.writer")

#: A connection that says or takes nothing for so long is closed; more than so many at once are not taken.
SILENCE_LIMIT_S = 10.0
CONNECTIONS = 16
#: A connection keeps its place at least so long, and gives it up within so much more when it is told to.
PLACE_KEPT_S, PLACE_FREED_S = 1.0, 0.5
#: The figures cost no more than this part of the loop's time, however many journals there are.
SHARE = 0.02
_PREFIX = "telemetry_writer_"


#: A name without its prefix, the help, the label ("" for none), and the value of each label's value.
Family = tuple[str, str, str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What the loop publishes. Times are monotonic."""

    taken: float
    pending_since: float | None
    gauges: tuple[Family, ...]
    counters: tuple[Family, ...]
    histograms: tuple[tuple[str, str, HistogramSnapshot], ...]
    infos: tuple[tuple[str, str, Mapping[str, str]], ...]


class Metrics:
    """The server of one writer: publishes at each `publish`, until `close`."""

    def __init__(self, address: str, status: Callable[[], WriterStatus], folder: BusFolder) -> None:
        """Listen at `address`. Raises `ConfigError`."""
        self._take: Callable[[], Figures] = lambda: figures_of(status(), folder)
        self._take_at = 0.0
        self._figures = self._take()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(FiguresCollector(lambda: self._figures))
        ProcessCollector(registry=registry)
        host, port = parse_address(address)
        self._server = _listen(host, port)
        self._server.set_app(make_wsgi_app(registry))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True)
        self._thread.start()
        host, port = str(self._server.server_address[0]), self._server.server_port
        logger.info("metrics at http://%s:%d/metrics", f"[{host}]" if ":" in host else host, port)
        if not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
            logger.warning("the metrics are not for this machine alone: whoever reaches %s may read them", host)

    def publish(self) -> None:
        """Take the figures anew, if it is time. For the main loop."""
        now = time.monotonic()
        if now >= self._take_at:
            self._figures = self._take()
            self._take_at = now + (time.monotonic() - now) / SHARE

    def close(self) -> None:
        """Listen no longer. Who is being answered may go on; the process does not wait for them."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`; `:PORT` and `PORT` mean this machine alone. Raises `ConfigError`."""
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ConfigError("that is no HOST:PORT", operation="--metrics", subject=text, hint="as in 127.0.0.1:9464")
    return host.strip("[]") or "127.0.0.1", int(port)


def figures_of(status: WriterStatus, folder: BusFolder) -> Figures:
    """What is published of a state of the writer, and of the disk at this moment."""
    written = status.written
    journals, journal_bytes, dropped = _journals(folder, status.adopting_stream)
    database_bytes, free_bytes = _disk(status.database.path)
    return Figures(
        taken=status.taken,
        pending_since=status.pending_since,
        gauges=(
            _one("pending_jobs", "Jobs received and not committed yet.", status.pending_jobs),
            (
                "pending_bytes",
                "Bytes that wait: received here, in journals of living producers, in orphaned journals.",
                "state",
                {"received": status.pending_bytes, **journal_bytes},
            ),
            ("journals", "Journals on the disk, of living producers and orphaned ones.", "state", journals),
            _one(
                "journals_unread",
                "Journals of another version, left to a writer that can read them.",
                status.journals_unread,
            ),
            _one("dead_letters", "Dead letters in the table.", written.dead_letters),
            _one("streams", "Streams that the writer knows.", status.streams),
            _one("definitions_cached", "Definitions (DDL) that were seen to.", written.ddl_cached),
            _one("drifted_tables", "Tables that differ from what jobs define.", len(written.drift)),
            _one("wal_bytes", "Size of the write-ahead log.", written.wal_bytes),
            _one("database_bytes", "Size of the database file, without its log.", database_bytes),
            _one("disk_free_bytes", "Bytes that are free where the database is.", free_bytes),
            _one(
                "degraded",
                "1 while the database is at fault, or jobs are gone.",
                int(status.degraded),
            ),
        ),
        counters=(
            _one("jobs_committed", "Jobs committed.", written.jobs_committed),
            _one("rows_committed", "Rows committed.", written.rows_committed),
            _one("transactions", "Transactions committed.", written.batches),
            (
                "job_failures",
                "Jobs that became dead letters, by the type of the error.",
                "error_type",
                status.failures,
            ),
            _one("database_faults", "How often the database was at fault, each new try counted.", status.faults),
            _one("duplicates_dropped", "Jobs that came twice and were dropped.", status.duplicates),
            _one("resends_requested", "How often a producer was asked to send again.", status.resends),
            _one("malformed_messages", "Messages that make no sense, or are of another version.", status.malformed),
            _one("producers_refused", "Producers of another database that were refused.", status.refused),
            _one("jobs_dropped", "Jobs that found a full journal, of ended programs too.", dropped),
            _one("jobs_gone", "Acknowledged jobs that the database no longer has.", status.jobs_gone),
            _one("journals_adopted", "Journals of dead producers that were adopted.", status.journals_adopted),
            _one("journals_quarantined", "Damaged journals that were put aside.", status.journals_quarantined),
            (
                "checkpoints",
                "Looks after the log: ok (written back, or not due), held_up by a reader, failed.",
                "result",
                status.checkpoints,
            ),
        ),
        histograms=(
            ("batch_jobs", "Jobs in one batch.", status.batch_jobs),
            (
                "commit_seconds",
                "Time from the beginning of a batch's transaction to its end.",
                status.commit_seconds,
            ),
        ),
        infos=(
            (
                "build_info",
                "What runs.",
                {
                    "version": __version__,
                    "python": platform.python_version(),
                    "sqlite": written.database_version,
                },
            ),
            ("epoch_info", "This life of the writer.", {"epoch": status.epoch.hex()}),
        ),
    )


class FiguresCollector(Collector):
    """Turns published figures into Prometheus' families. Ages grow between two publications, as they should."""

    def __init__(self, figures: Callable[[], Figures], clock: Callable[[], float] = time.monotonic) -> None:
        self._read = figures
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        figures, now = self._read(), self._clock()
        waiting = 0.0 if figures.pending_since is None else now - figures.pending_since
        ages = (
            _one("oldest_pending_age_seconds", "How long the oldest received job has waited for its commit.", waiting),
            _one("figures_age_seconds", "How long ago the main loop took these figures.", now - figures.taken),
        )
        for name, text, label, values in (*figures.gauges, *ages):
            yield _filled(GaugeMetricFamily(_PREFIX + name, text, labels=[label] if label else []), values)
        for name, text, label, values in figures.counters:
            yield _filled(CounterMetricFamily(_PREFIX + name, text, labels=[label] if label else []), values)
        for name, text, histogram in figures.histograms:
            buckets = [*zip(map(str, histogram.bounds), histogram.at_most, strict=True), ("+Inf", histogram.count)]
            yield HistogramMetricFamily(_PREFIX + name, text, buckets=buckets, sum_value=histogram.sum)
        for name, text, labels in figures.infos:
            info = GaugeMetricFamily(_PREFIX + name, text, labels=list(labels))
            info.add_metric(list(labels.values()), 1)
            yield info


def _one(name: str, text: str, value: float) -> Family:
    return name, text, "", {"": value}


def _filled(family: Any, values: Mapping[str, float]) -> Metric:
    for label, value in values.items():
        family.add_metric([label] if label else [], value)
    metric: Metric = family
    return metric


def _journals(folder: BusFolder, adopting: bytes | None) -> tuple[dict[str, float], dict[str, float], int]:
    """Number and unacknowledged bytes of the journals, by state, and jobs dropped. Only their first pages are read."""
    dropped: dict[bytes, int] = {}
    number: dict[str, float] = {"waiting": 0, "orphaned": 0}
    size: dict[str, float] = {"waiting": 0, "orphaned": 0}
    with suppress(OSError):  # out of descriptors: what was seen so far
        for path in folder.journal_paths():
            fd = lock_file(path)
            state = "orphaned" if fd is not None or (adopting and path.stem == adopting.hex()) else "waiting"
            with suppress(FileNotFoundError, JournalCorrupt):
                if fd is None:
                    fd = open_inside(path, os.O_RDONLY)
                try:
                    page = os.pread(fd, PAGE_BYTES, 0).ljust(PAGE_BYTES, b"\0")
                finally:
                    os.close(fd)
                words = memoryview(page).cast("Q")
                number[state] += 1
                size[state] += max(0, words[TAIL] - read_watermark(page)[1])
                dropped[Header.unpack(page).stream] = words[DROPPED]
    return number, size, dropped_jobs(folder.journals, dropped.items())


def _disk(path: Path | None) -> tuple[float, float]:
    """Bytes of the database's file, and free ones beside it; NaN where that cannot be told."""
    size = free = float("nan")
    if path is not None:
        with suppress(OSError):
            size = path.stat().st_size
        with suppress(OSError):
            system = os.statvfs(path.parent)
            free = system.f_bavail * system.f_frsize
    return size, free


def _listen(host: str, port: int) -> _Server:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return (_Server6 if family == socket.AF_INET6 else _Server)(address[:2], _Handler)
    except OSError as error:
        raise ConfigError(
            f"cannot listen: {error.strerror or error}",
            operation="--metrics",
            subject=f"{host}:{port}",
            hint="another program may have this port; port 0 takes a free one",
        ) from None


class _Server(ThreadingMixIn, WSGIServer):
    """prometheus_client's own server waits for a silent client for ever, in as many threads as there are clients."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, *arguments: Any) -> None:
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        self._since: dict[socket.socket, float] = {}  # when each was accepted, in that order
        super().__init__(*arguments)

    def server_bind(self) -> None:
        """Without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Without a place the oldest one's is taken, if it has had its time: clients that send a byte now and then must
        not keep others out."""
        free = self._places.acquire(blocking=False)
        if not free and self._end_those_older_than(PLACE_KEPT_S, most=1):
            free = self._places.acquire(timeout=PLACE_FREED_S)
        if not free:
            self.shutdown_request(request)
            return
        self._since[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._release(request)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._release(request)

    def service_actions(self) -> None:
        self._end_those_older_than(SILENCE_LIMIT_S, most=CONNECTIONS)

    def _release(self, request: Any) -> None:
        self._since.pop(request, None)
        self._places.release()

    def _end_those_older_than(self, age_s: float, most: int) -> int:
        """How many were ended; their threads go when they notice."""
        now = time.monotonic()
        old = [request for request, since in list(self._since.items()) if now - since >= age_s][:most]
        for request in old:
            with suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)
        return len(old)

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a scraper of the metrics was not answered: %s", sys.exc_info()[1])


class _Server6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = SILENCE_LIMIT_S

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug("metrics: %s", format % args)
