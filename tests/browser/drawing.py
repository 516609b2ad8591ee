"""Chromium without a screen, the pages of a database, and pictures of them: `scripts/draw-dashboard`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).parents[2] / "docs" / "dashboard"
#: Name, address and width of each picture.
PICTURES = (
    ("overview", "/", 1280),
    ("publishers", "/publishers", 1280),
    ("errors", "/errors?days=1", 1280),
    ("methods", "/methods", 390),
)
HEIGHT = 700
#: A batch job of some seconds.
RECORDS = 3000
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_SERVE = "import sys; from producers.reports.command import main; sys.exit(main(sys.argv[1:]))"


def chromium() -> str | None:
    """The path of the system's Chromium."""
    return shutil.which("chromium")


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """A browser for the block."""
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=path, args=_FLAGS) as browser:
        yield browser


@contextmanager
def served(database: Path) -> Iterator[str]:
    """The pages of a database for the block: their address."""
    command = [sys.executable, "-P", "-c", _SERVE, "--database", str(database), "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip().rstrip("/")
        finally:
            process.terminate()


def draw() -> None:
    """Make the pictures again. Raises when there is no Chromium."""
    path = chromium()
    if path is None:
        raise SystemExit("chromium is not installed")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "telemetry.db"
        demo = ["-P", "-m", "examples.demo", "--records", str(RECORDS), "--database", str(database)]
        subprocess.run([sys.executable, *demo], check=True, env={"PYTHONPATH": str(FOLDER.parents[1])})
        with served(database) as address, launched(path) as browser:
            for name, view, width in PICTURES:
                page = browser.new_page(viewport={"width": width, "height": HEIGHT})
                page.goto(address + view)
                page.screenshot(path=FOLDER / f"{name}.png")
                page.close()
