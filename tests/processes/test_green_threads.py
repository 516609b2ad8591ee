"""gevent and eventlet: the bus has real threads of its own, and the program's green ones never stand still for it."""

from __future__ import annotations

import signal
import socket
import urllib.request

import pytest

from ..support.bus import Bus
from ..support.clock import wait_until

pytestmark = pytest.mark.integration

PATCH = {
    "gevent": "from gevent import monkey, sleep, spawn; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import sleep, spawn",
}

#: Ten green threads submit, and flush; another one counts meanwhile, and must go on.
WORK = """
ticks = 0
def tick():
    global ticks
    while True:
        ticks += 1
        sleep(0.001)
def work(who):
    for number in range(1, 21):
        event(store, who, number)
        sleep(0)
    store.flush()
spawn(tick)
threads = [spawn(work, f"p{number}") for number in range(10)]
for thread in threads:
    getattr(thread, "get", None) and thread.get() or getattr(thread, "wait", lambda: None)()
assert ticks > 1 or mode == "sync", ticks
with store.connection() as connection:
    assert 200 == len(connection.execute("SELECT 1 FROM events").fetchall())
store.shutdown(wait=True)
"""

LOAD, OPEN = "from telemetry_bus import TelemetryStore", "store = TelemetryStore(database, mode=mode)"
ORDERS = {
    "before the import": "{patch}\n{load}\n{open}",
    "after the import": "{load}\n{patch}\n{open}",
    "after the store": "{load}\n{open}\n{patch}",
    "after the first job": "{load}\n{open}\nstore.execute('CREATE TABLE IF NOT EXISTS other (a)')\n{patch}",
}


@pytest.mark.parametrize("mode", ["daemon", "thread", "sync"])
@pytest.mark.parametrize(
    ("world", "order"),
    # eventlet exchanges the locks of objects that are in use, and says itself that it must come first
    [(world, order) for world in PATCH for order in ORDERS if (world, order) != ("eventlet", "after the first job")],
)
def test_a_patched_program(bus: Bus, world: str, order: str, mode: str) -> None:
    """Whenever it patches, each job is applied once, and to flush lets others run."""
    begin = ORDERS[order].format(patch=PATCH[world], load=LOAD, open=OPEN)
    program = bus.home / "green.py"
    program.write_text("import os, sys, time\ndatabase, mode = sys.argv[1:]\n" + begin + JOBS + WORK)
    process = bus.start_command("-W", "ignore", str(program), str(bus.path), mode)
    bus.finish(process)
    assert {f"p{number}": [*range(1, 21)] for number in range(10)} == bus.numbers()


JOBS = """
ENSURE = ["CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, producer TEXT NOT NULL, number INTEGER NOT NULL)"]
def event(store, producer, number):
    store.execute("INSERT INTO events (producer, number) VALUES (?, ?)", (producer, number), ensure=ENSURE)
"""


#: What a server of web pages runs: each request is a job, and says which process took it.
APPLICATION = (
    """
import os, sys
from telemetry_bus import TelemetryStore
store = TelemetryStore(os.environ["DATABASE"])
"""
    + JOBS
    + """
if "uwsgi" not in sys.modules:  # its workers inherit the interpreter's lock as it is, held by another thread perhaps
    event(store, "before the fork", 1)

def application(environ, start_response):
    number = int(environ["PATH_INFO"].strip("/"))
    event(store, "request", number)
    if number % 5 == 0:
        store.flush()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]
"""
)

SERVERS = {
    "gunicorn with gevent": ["-m", "gunicorn", "-k", "gevent", "-w", "2", "--bind", "{address}", "app"],
    "gunicorn with gevent and preload": [
        *("-m", "gunicorn", "-k", "gevent", "-w", "2", "--preload", "--bind", "{address}", "app")
    ],
    "uWSGI": [
        *("-c", "import pyuwsgi, sys; pyuwsgi.run(sys.argv[1:])"),
        *("--http-socket", "{address}", "--master", "--processes", "2", "--wsgi-file", "app.py", "--enable-threads"),
        *("--die-on-term", "--disable-logging"),
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize("server", SERVERS)
def test_a_server(bus: Bus, server: str) -> None:
    """The real program, with two workers: each request's job is applied once, and where the workers are forked late the
    one before."""
    (bus.home / "app.py").write_text(APPLICATION)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [word.format(address=f"127.0.0.1:{port}") for word in SERVERS[server]]
    process = bus.start_command(*words, folder=str(bus.home), DATABASE=str(bus.path), PYTHONWARNINGS="ignore")

    def get(number: int) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{number}", timeout=60) as answer:
            return str(answer.read().decode())

    def first() -> bool:
        assert process.poll() is None, bus.errors(process)
        try:
            return bool(get(1))
        except OSError:
            return False

    wait_until(first, "the server answers")
    for number in range(2, 41):
        get(number)
    wait_until(lambda: len(bus.numbers().get("request", ())) >= 40, "all jobs are applied")
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    if server != "uWSGI":
        wait_until(lambda: bus.numbers().get("before the fork"), "the job before the fork is applied")
    assert [*range(1, 41)] == sorted(bus.numbers()["request"])
