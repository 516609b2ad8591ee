"""What ordinary rates cost on PostgreSQL, and what a round trip of a millisecond costs.

    python -m benchmarks.postgresql_rates [SECONDS]

Two producers submit a job of one row each so many times a second, in mode daemon, with defaults. Prints the CPU of the
producers, of the writer and of the server, in µs a job, and how long a `flush` after a job takes (median); then the
same with a server that is reached through a link with half a millisecond each way.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from telemetry_bus import TelemetryStore
from telemetry_bus.config import parse_database
from telemetry_bus.control import ask
from telemetry_bus.runtime.folder import BusFolder
from tests.support.postgresql import USER, Server, binaries

RATES = (10, 100, 1000)
DELAY_S = 0.0005
_FLUSHES = 40
TABLE = "CREATE TABLE IF NOT EXISTS fetches (url TEXT, status INTEGER, seconds DOUBLE PRECISION, at TIMESTAMP)"
PRODUCER = f"""
import sys, time
from telemetry_bus import TelemetryStore
url, rate, seconds = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
with TelemetryStore(url, timeout=60) as store:
    def job(number):
        store.execute("INSERT INTO fetches VALUES (?, ?, ?, ?)",
            (f"https://example.org/{{number}}", 200, 0.5, "2026-01-02 03:04:05"), ensure=[{TABLE!r}])
    job(0)
    store.flush()
    cpu, began = time.process_time(), time.perf_counter()
    for number in range(int(rate * seconds)):
        time.sleep(max(0.0, began + number / rate - time.perf_counter()))
        job(number)
    print((time.process_time() - cpu) / int(rate * seconds) * 1e6)
"""


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def cpu_of_server(data: Path) -> float:
    postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return cpu_of(postmaster) + sum(cpu_of(int(child)) for child in children)


def cost(url: str, data: Path, rate: int, seconds: float) -> tuple[float, float, float]:
    """µs a job of one producer, the writer, and the server."""
    folder = BusFolder.of(parse_database(url))
    with TelemetryStore(url) as store:  # starts the writer
        store.execute("DELETE FROM fetches", ensure=[TABLE])
        store.flush()
        writer = int(ask(folder, "status", 10)["pid"])
        before = cpu_of(writer), cpu_of_server(data)
        command = [sys.executable, "-c", PRODUCER, url, str(rate / 2), str(seconds)]
        producers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        own = median(float(producer.communicate()[0]) for producer in producers)
        jobs = rate * seconds
        return own, (cpu_of(writer) - before[0]) / jobs * 1e6, (cpu_of_server(data) - before[1]) / jobs * 1e6


def flush_ms(url: str) -> float:
    """How long a flush behind one job takes, by a writer that is there."""
    took = []
    with TelemetryStore(url) as store:
        for number in range(_FLUSHES + 1):
            store.execute("INSERT INTO fetches VALUES ('a', 1, 1.0, NULL)", ensure=[TABLE])
            began = time.perf_counter()
            store.flush()
            if number:
                took.append(time.perf_counter() - began)
    return median(took) * 1000


@contextmanager
def link(port: int) -> Iterator[int]:
    """A port that leads to another one, with a delay each way."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                server = socket.create_connection(("127.0.0.1", port))
                for one, other in ((client, server), (server, client)):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threading.Thread(target=pump, args=(one, other), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def pump(one: Any, other: Any) -> None:
    while data := one.recv(1 << 16):
        time.sleep(DELAY_S)
        other.sendall(data)
    other.close()


def main(seconds: float) -> None:
    found = binaries()
    if found is None:
        sys.exit("install the test extra, or name a server's programs in POSTGRESQL_BIN")
    with tempfile.TemporaryDirectory(prefix="telemetry-bus-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        os.environ["TELEMETRY_BUS_DIR"] = str(folder / "bus")
        server = Server(folder / "server", found)
        server.create()
        server.start({"fsync": "on", "shared_buffers": "256MB"})
        try:
            server.run(f"CREATE ROLE {USER} LOGIN", f"CREATE DATABASE rates OWNER {USER}")
            with link(server.port) as port:
                near = server.url("rates")
                urls = {"here": near, "1 ms away": near.replace(str(server.port), str(port))}
                for place, url in urls.items():
                    for rate in RATES:
                        own, writer, there = cost(url, server.data, rate, seconds)
                        print(
                            f"{place:<10} {rate:>5} jobs/s  producer {own:6.1f}  writer {writer:6.1f}"
                            f"  server {there:6.1f} µs CPU a job",
                            flush=True,
                        )
                    print(f"{place:<10} flush behind a job: {flush_ms(url):.1f} ms", flush=True)
                for url in urls.values():
                    subprocess.run(
                        [sys.executable, "-m", "telemetry_bus", "stop", "--database", url],
                        check=True,
                        capture_output=True,
                    )
        finally:
            server.stop()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10)
