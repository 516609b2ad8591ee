"""Programs that run the code of others, each as the page of operations shows it: what stands there is run here."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from ..support.bus import HEAD, ROOT, Bus, Notes
from ..support.clock import DEADLINE_S, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE = (ROOT / "docs" / "operations.md").read_text()
ADDRESS = "127.0.0.1:8000"
REQUESTS = 40


def shown(section: str, kind: str) -> str:
    """The block of this kind in a section of the page."""
    text = PAGE.partition(f"### {section}\n")[2].partition("\n##")[0]
    return text.partition(f"```{kind}\n")[2].partition("```")[0]


def command(section: str, address: str = ADDRESS) -> list[str]:
    """The command that a section shows, as this environment has it."""
    program, *words = shlex.split(shown(section, "sh").replace(ADDRESS, address))
    return [str(Path(sys.executable).with_name(program)), *words]


@contextmanager
def running(bus: Bus, words: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the test's folder, which ends at SIGTERM."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("TELEMETRY_", "XDG_"))}
    settings = {"PYTHONPATH": f"{ROOT}:{bus.home}", "TELEMETRY_DATABASE_URL": str(bus.path), "PYTHONWARNINGS": "ignore"}
    with (bus.home / "said").open("wb") as said:
        process = subprocess.Popen(
            words,
            cwd=bus.home,
            env={**kept, **settings, **environment},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(DEADLINE_S)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize("server", ["gunicorn", "uWSGI"])
def test_a_server(bus: Bus, server: str) -> None:
    """Each request's job is applied once; what was submitted last, too, when the server is told to end."""
    (bus.home / "app.py").write_text(shown(server, "python"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    with running(bus, command(server, address)) as process:

        def answers() -> bool:
            assert process.poll() is None, (bus.home / "said").read_text()
            try:
                return bool(urllib.request.urlopen(f"http://{address}/", timeout=DEADLINE_S).read())
            except OSError:
                return False

        wait_until(answers, "the server answers")
        for _ in range(REQUESTS - 1):
            assert answers()
    wait_until(lambda: [(REQUESTS,)] == bus.rows("SELECT count(*) FROM requests"), "all are applied")
    bus.settle()
    assert [(REQUESTS,)] == bus.rows("SELECT count(*) FROM requests")
    bus.sound()


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
def test_celery(bus: Bus, pool: str) -> None:
    """Each task's job is applied once, though its child ends after a few tasks."""
    (bus.home / "tasks.py").write_text(shown("Celery", "python"))
    (bus.home / "celeryconfig.py").write_text(
        "broker_url = 'filesystem://'\n"
        "broker_transport_options = {'data_folder_in': 'queue', 'data_folder_out': 'queue'}\n"
        "control_folder = 'control'\n"
    )
    (bus.home / "queue").mkdir()
    words = [word.replace("prefork", pool) for word in command("Celery")]
    send = f"import tasks\nfor number in range({REQUESTS}): tasks.fetched.delay(str(number))"
    with running(bus, words):
        subprocess.run(
            [sys.executable, "-c", send], cwd=bus.home, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        wait_until(lambda: REQUESTS == len(bus.rows("SELECT url FROM fetches")), "all are applied")
    bus.settle()
    assert sorted(str(number) for number in range(REQUESTS)) == sorted(
        url for (url,) in bus.rows("SELECT url FROM fetches")
    )
    bus.sound()


#: Submits until it is told to end.
PRODUCER = (
    Notes.OPEN
    + """
place = int(sys.argv[2])
store = TelemetryStore(database)
noted[10 + place] = os.getpid()
while not noted[0]:
    event(store, f"p{place}", noted[place] + 1)
    noted[place] += 1
    time.sleep(0.002)
store.shutdown(wait=True)
"""
)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make namespaces and mount in them")
def test_containers(tmp_path: Path) -> None:
    """Two, with processes, network, mounts and a host name of their own, and one volume in different places. One is
    killed with all that is in it, the writer too: the other goes on with a writer of its own."""
    volume = tmp_path / "volume"
    volume.mkdir()
    bus = Bus(tmp_path, volume / "telemetry.db")
    (tmp_path / "producer.py").write_text(HEAD + PRODUCER)
    containers: list[subprocess.Popen[bytes]] = []

    def applied(producer: str, number: int) -> bool:
        return len(bus.numbers().get(producer, ())) >= number

    try:
        for number in (1, 2):
            place = tmp_path / f"data{number}"
            place.mkdir()
            inside = f'mount --bind {volume} {place} && umount -l {volume} 2>/dev/null; exec "$@"'
            containers.append(
                subprocess.Popen(
                    [
                        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                        *("--ipc", "--net", "--uts", "sh", "-c", inside, "sh"),
                        *(sys.executable, str(tmp_path / "producer.py"), str(place / "telemetry.db"), str(number)),
                    ],
                    env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "NOTES": str(bus.notes.path)},
                    stderr=subprocess.PIPE,
                )
            )
            wait_until(partial(applied, f"p{number}", 50), "it is written")
        assert 1 == bus.notes[11] == bus.notes[12], "each is the first process of its container"
        containers[0].kill()
        containers[0].wait()
        wait_until(partial(applied, "p2", bus.notes[2] + 50), "the other goes on")
        bus.notes[0] = 1
        assert 0 == containers[1].wait(DEADLINE_S)
        wait_until(partial(applied, "p1", bus.notes[1]), "what the killed one left is adopted")
        assert list(range(1, len(bus.numbers()["p1"]) + 1)) == bus.numbers()["p1"]
        assert len(bus.numbers()["p1"]) - bus.notes[1] in (0, 1)  # killed between a submit and its note
        assert list(range(1, bus.notes[2] + 1)) == bus.numbers()["p2"]
        bus.sound()
    finally:
        for container in containers:
            container.kill()
            container.wait()
            assert container.stderr is not None
            container.stderr.close()
        bus.close()


@pytest.mark.timeout(600)
def test_pyinstaller(bus: Bus) -> None:
    """The frozen program is its own writer, and its main part runs once."""
    (bus.home / "program.py").write_text(shown("PyInstaller", "python"))
    smaller = [
        word for module in ("sqlalchemy", "numpy", "matplotlib", "celery") for word in ("--exclude-module", module)
    ]
    words = [*command("PyInstaller"), "--paths", str(ROOT), "--log-level", "ERROR", *smaller]
    subprocess.run(words, cwd=bus.home, check=True, capture_output=True, timeout=500)
    environ = {"PATH": "/nowhere", "HOME": str(bus.home), "TELEMETRY_BUS_IDLE_TIMEOUT": "2"}
    program = [str(bus.home / "dist" / "program" / "program")]
    ended = subprocess.run(
        program, env={**environ, "TELEMETRY_DATABASE_URL": str(bus.path)}, capture_output=True, text=True, timeout=300
    )
    assert (0, "", "") == (ended.returncode, ended.stdout, ended.stderr)
    assert [(1,)] == bus.rows("SELECT number FROM runs")
