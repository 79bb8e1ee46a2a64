"""A PostgreSQL server of our own: in a temporary directory, on a Unix socket, gone when the tests are."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from rindle.db import migrate
from tests.required import missing

NOT_INSTALLED = "PostgreSQL is not installed (no initdb on PATH or in /usr/lib/postgresql/*/bin)"

_TEMPLATE = "rindle_template"


class PostgresServer:
    """Hands out databases, each a copy of one that was migrated once."""

    def __init__(self, socket: Path) -> None:
        self.folder = socket
        """Where it lies, and its socket."""
        self._numbers = count(1)

    def url(self, name: str, *, driver: str = "psycopg") -> str:
        return f"postgresql+{driver}://postgres@/{name}?host={self.folder}"

    @contextmanager
    def database(self, *, migrated: bool) -> Iterator[str]:
        """The name of a database that is there for as long as the block runs."""
        name = f"test_{next(self._numbers)}"
        self.execute("CREATE DATABASE {} TEMPLATE {}", name, _TEMPLATE if migrated else "template0")
        try:
            yield name
        finally:
            self.execute("DROP DATABASE {} WITH (FORCE)", name)

    def pid(self) -> int:
        """Of the process whose children all others are."""
        return int((self.folder / "data" / "postmaster.pid").read_text().split()[0])

    def make_template(self) -> None:
        self.execute("CREATE DATABASE {}", _TEMPLATE)
        migrate.upgrade(self.url(_TEMPLATE))

    def execute(self, statement: str, *names: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement by hand; ``{}`` stands for names."""
        with psycopg.connect(host=str(self.folder), user="postgres", dbname=database, autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
            return cursor.fetchall() if cursor.description else []


def start_postgres() -> Iterator[PostgresServer]:
    """A running server; the test is skipped (or fails, see :mod:`tests.required`) where PostgreSQL is not installed."""
    binaries = find_binaries()
    if binaries is None:
        missing("postgres", NOT_INSTALLED)
    with run_postgres(binaries) as server:
        yield server


@contextmanager
def run_postgres(binaries: Path) -> Iterator[PostgresServer]:
    """A server for as long as the block runs. It waits for no disk."""
    folder = Path(
        tempfile.mkdtemp(prefix="rindle-pg-", dir="/tmp")
    )  # short: a socket's path has 107 characters at most
    owner = _choose_owner()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [binaries / program, "-D", folder / "data", *arguments],
            check=True,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            user=None if owner is None else owner.pw_uid,
            group=None if owner is None else owner.pw_gid,
            extra_groups=None if owner is None else [],
        )

    try:
        run("initdb", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        settings = f"-k {folder} -c listen_addresses='' -c max_connections=100 -c fsync=off -c full_page_writes=off"
        run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", settings, "start")
        try:
            server = PostgresServer(folder)
            server.make_template()
            yield server
        finally:
            run("pg_ctl", "-w", "-m", "fast", "stop")
    finally:
        shutil.rmtree(folder)


def name_of(url: str) -> str:
    """The name of the database of a URL made by :meth:`PostgresServer.url`."""
    return url.partition("@/")[2].partition("?")[0]


def find_processes(server: PostgresServer, url: str, application: str = "rindle") -> list[int]:
    """The server's processes that serve this application's connections to this database."""
    name = name_of(url)
    statement = f"SELECT pid FROM pg_stat_activity WHERE datname = '{name}' AND application_name = '{application}'"
    return [row[0] for row in server.execute(statement)]


def terminate(server: PostgresServer, url: str, application: str = "rindle") -> None:
    """End this application's connections to this database, and wait until they are gone."""
    for process in find_processes(server, url, application):
        assert server.execute(f"SELECT pg_terminate_backend({process}, 10000)") == [(True,)]


@contextmanager
def connections_refused(server: PostgresServer, url: str) -> Iterator[None]:
    """While the block runs, the database lets nobody in who is not in already."""
    server.execute("ALTER DATABASE {} ALLOW_CONNECTIONS false", name_of(url))
    try:
        yield
    finally:
        server.execute("ALTER DATABASE {} ALLOW_CONNECTIONS true", name_of(url))


def find_binaries() -> Path | None:
    """Where PostgreSQL's programs are."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return versions[-1].parent if versions else None


def _choose_owner() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]
