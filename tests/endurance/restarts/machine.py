"""A machine that has just booted, with a real systemd and some users."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...support.clock import DEADLINE_S, wait_until

ROOT = Path(__file__).parents[3]


class Machine:
    """The booted systemd."""

    def __init__(self, scratch: Path) -> None:
        self._log = scratch.with_name(f"{scratch.name}.log")
        with self._log.open("w") as log:
            self._outer = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", str(Path(__file__).with_name("boot")), str(scratch), str(ROOT)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._inner = 0

    def boots(self) -> bool:
        """Wait until it has booted; False when it cannot on this machine."""

        def is_up() -> bool:
            children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children").read_text().split()
            if self._outer.poll() is not None:
                return True
            if not children or Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
                return False
            self._inner = int(children[0])
            return self.run("systemctl", "is-system-running", check=False) in ("running", "degraded")

        wait_until(is_up, "systemd is up")
        return self._outer.poll() is None

    def why_not(self) -> str:
        return self._log.read_text()

    def popen(self, *words: str, user: str = "root", **environment: str) -> subprocess.Popen[str]:
        """Start a program on it, as this user."""
        enter = ["nsenter", "--target", str(self._inner), "--all", "--root", "--wd"]
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"] if user != "root" else []
        return subprocess.Popen(
            [*enter, *become, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is for us alone
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **environment},
        )

    def run(self, *words: str, check: bool = True, user: str = "root", **environment: str) -> str:
        """Run a program on it to its end; its output, or with a failure that is allowed all that it said."""
        process = self.popen(*words, user=user, **environment)
        output, errors = process.communicate(timeout=DEADLINE_S)
        assert not check or process.returncode == 0, (words, output, errors)
        return output.strip() if check else (output + errors).strip()

    def python(self, *words: str, **options: Any) -> str:
        return self.run(sys.executable, "-P", *words, **options)

    def people(self) -> None:
        """Two users: `member` of the group telemetry, and `stranger`. Both reach this Python."""
        self.run("groupadd", "--force", "telemetry")
        self.run("useradd", "--groups", "telemetry", "member")
        self.run("useradd", "stranger")
        for path in (ROOT / "x", Path(sys.executable), Path(sys.executable).resolve()):
            self._open_to_all(path)

    def _open_to_all(self, path: Path) -> None:
        """Everybody may pass to `path`, on this machine."""
        for folder in path.parents:
            self.run("chmod", "o+x", str(folder), check=folder.is_relative_to("/root"))

    def close(self) -> None:
        self._outer.kill()  # and with it everything inside
        self._outer.wait()
