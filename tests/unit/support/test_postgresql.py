"""The PostgreSQL server of the tests: one for all, a database for each, and nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ...support.clock import wait_until
from ...support.postgresql import ASKED, ROOT, Server, shared_server
from ...support.processes import running

pytestmark = pytest.mark.postgresql
psycopg = pytest.importorskip("psycopg")

#: Uses the server of a run, says where it is, and dies without a word when told to.
USES = """
import os, sys
from tests.support.postgresql import shared_server
with shared_server() as server:
    print(server.folder, server.port, flush=True)
    sys.stdin.readline()
    os._exit(1)
"""


def test_each_test_has_an_empty_database(postgresql: str) -> None:
    """The URL leads to a database without tables, which its user owns."""
    with psycopg.connect(postgresql, autocommit=True) as connection:
        tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
        assert (0,) == connection.execute(tables).fetchone()
        connection.execute("CREATE TABLE mine (id integer)")
        assert (1,) == connection.execute(tables).fetchone()


def test_the_server_is_shared(postgresql_server: Server) -> None:
    """Who asks again gets the same one."""
    with shared_server() as server:
        assert postgresql_server.port == server.port


def test_a_member_is_asked_for_a_password(postgresql_server: Server) -> None:
    """A role that was granted `asked` gets in with its password alone."""
    role = f"role_{os.getpid()}"
    postgresql_server.run(f"CREATE ROLE {role} LOGIN PASSWORD 'opensesame' IN ROLE {ASKED}")
    url = postgresql_server.url(user=role)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url)
    psycopg.connect(url.replace("@", ":opensesame@")).close()
    postgresql_server.run(f"DROP ROLE {role}")


@pytest.mark.slow
@pytest.mark.integration
def test_nothing_is_left_when_its_users_are_killed(postgresql_server: Server) -> None:
    """The server ends when the last process that uses it has, and its folder with it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_XDIST_TESTRUNUID": f"left{os.getpid()}"}
    users = [
        subprocess.Popen(
            [sys.executable, "-c", USES],
            text=True,
            cwd="/",
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        said = [user.stdout.readline().split() for user in users if user.stdout]
        assert said[0] == said[1]
        folder = Path(said[0][0])
        users[0].communicate("\n")
        assert running(str(folder))
        users[1].communicate("\n")
        wait_until(lambda: not running(str(folder)) and not folder.exists(), "the server has ended")
    finally:
        for user in users:
            user.kill()
            user.communicate()
