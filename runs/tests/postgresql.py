"""A real PostgreSQL for tests: a private cluster on a free loopback port, and Django's connection pointed at it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from django.core.management import call_command
from django.db import connections

from tests.servers import Server, ServerFailed

USER = "roundtable"
DATABASE = "roundtable"


def postgresql_programs() -> Path | None:
    """Return the folder with the newest installed server's programs, or None without one."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    return folders[-1].parent if folders else None


class PostgresqlServer(Server):
    """A cluster of its own, run as an unprivileged user (the server refuses to be run by root)."""

    def __init__(self, *, durable: bool = False) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="roundtable-postgresql-"))
        self._as_user = _as_unprivileged(self._root)
        super().__init__(self._root, "postgresql")
        self._durable = durable
        _give(self.directory)

    @property
    def url(self) -> str:
        return f"postgres://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    def environment(self) -> dict[str, str]:
        return {"ROUNDTABLE_DATABASE_URL": self.url}

    def command(self) -> list[str]:
        programs = postgresql_programs()
        assert programs is not None
        data = self.directory / "data"
        if not data.exists():
            subprocess.run(
                [*self._as_user, str(programs / "initdb"), "-D", str(data), "-U", USER, "--auth=trust", "-E", "UTF8"]
                + ([] if self._durable else ["--no-sync"]),
                check=True,
                capture_output=True,
                cwd=self.directory,
            )
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "timezone=UTC"]
        if not self._durable:
            options += ["-c", "fsync=off", "-c", "full_page_writes=off"]
        return [*self._as_user, str(programs / "postgres"), "-D", str(data), "-p", str(self.port), *options]

    def database_make(self) -> None:
        """Create the database, once the server has recovered."""
        deadline = time.monotonic() + 20
        while True:
            try:
                with psycopg.connect(
                    host="127.0.0.1", port=self.port, user=USER, dbname="postgres", autocommit=True
                ) as session:
                    session.execute(f"CREATE DATABASE {DATABASE}")
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server at once: it would otherwise wait until every session ends by itself."""
        with contextlib.suppress(ServerFailed):
            os.kill(self.pid, signal.SIGINT)
        super().stop()

    def is_ready(self) -> bool:
        """Whether it takes connections: it listens before it has recovered."""
        try:
            psycopg.connect(host="127.0.0.1", port=self.port, user=USER, dbname=DATABASE).close()
        except psycopg.OperationalError:
            return False
        return True

    def remove(self) -> None:
        """Delete the cluster."""
        shutil.rmtree(self._root, ignore_errors=True)


@contextmanager
def django_on_postgresql(server: PostgresqlServer) -> Iterator[None]:
    """Point Django's default connection, of this and of new threads, at the server's migrated database."""
    parameters = connections.databases["default"]
    before = dict(parameters)
    connections["default"].close()
    former = connections["default"]
    parameters.clear()
    parameters.update(before)
    parameters.update(
        ENGINE="django.db.backends.postgresql",
        NAME=DATABASE,
        USER=USER,
        PASSWORD="",
        HOST="127.0.0.1",
        PORT=str(server.port),
        OPTIONS={},
    )
    connections["default"] = connections.create_connection("default")
    try:
        yield
    finally:
        connections["default"].close()
        parameters.clear()
        parameters.update(before)
        connections["default"] = former


def migrate() -> None:
    """Make the tables, quietly."""
    call_command("migrate", verbosity=0)


def empty_tables() -> None:
    """Delete every row."""
    connection = connections["default"]
    names = ", ".join(
        f'"{name}"'
        for name in connection.introspection.django_table_names(only_existing=True, include_views=False)
        if name != "django_content_type"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {names} CASCADE")


def _as_unprivileged(folder: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    entry = pwd.getpwnam("postgres")
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


def _give(folder: Path) -> None:
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
