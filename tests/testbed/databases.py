"""PostgreSQL, MariaDB and MySQL as objects: a DSN, fresh databases, crashes. Tests import them from `services`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from tests.testbed.mysqltree import mysqld
from tests.testbed.processes import (
    Home,
    Process,
    free_port,
    not_ours,
    plain_environment,
    run_as,
    unprivileged,
)


def _with_database(url: str, database: str) -> str:
    return urlunsplit(urlsplit(url)._replace(path=f"/{quote(database)}"))


@dataclass
class Database:
    """A database server. `url` reaches its administrator on its maintenance database."""

    url: str
    variable: str  # of the environment, which names somebody else's server
    process: Process | None = None
    made: list[str] = field(default_factory=list)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or {"postgresql": 5432}.get(urlsplit(self.url).scheme, 3306)

    @property
    def user(self) -> str:
        return urlsplit(self.url).username or ""

    @property
    def password(self) -> str:
        return urlsplit(self.url).password or ""

    def _own(self) -> Process:
        if self.process is None:
            raise not_ours(self.variable)
        return self.process

    def kill(self) -> None:
        """Crash it; `start()` brings it back."""
        self._own().kill()

    def start(self) -> None:
        self._own().start()

    def restart(self) -> None:
        self._own().restart()

    def close(self) -> None:
        if self.process is not None:
            self.process.stop()


class Postgres(Database):
    """PostgreSQL with `wal_level=logical`, prepared transactions and the contrib extensions; no fsync."""

    _prepared: str | None = None

    def dsn(self, database: str = "postgres") -> str:
        return _with_database(self.url, database)

    async def fresh_database(self) -> str:
        """Make an empty database with hstore and citext in it and return its DSN."""
        import asyncpg

        name = f"t_{secrets.token_hex(8)}"
        connection = await asyncpg.connect(self.url, timeout=30)
        try:
            # A copy of a file is a quarter of the work of a logged copy; older servers only know the former.
            how = " STRATEGY file_copy" if connection.get_server_version() >= (15,) else ""
            await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{await self._template()}"{how}')
        finally:
            await connection.close()
        self.made.append(name)
        return self.dsn(name)

    async def _template(self) -> str:
        """The database that fresh ones are copies of: made by the first, and nobody is ever connected to it again."""
        import asyncpg

        if self._prepared is None:
            name = f"t_{secrets.token_hex(8)}_template"
            connection = await asyncpg.connect(self.url, timeout=30)
            try:
                await connection.execute(f'CREATE DATABASE "{name}"')
            finally:
                await connection.close()
            self.made.append(name)
            connection = await asyncpg.connect(self.dsn(name), timeout=30)
            try:
                await connection.execute(
                    "CREATE EXTENSION IF NOT EXISTS hstore; CREATE EXTENSION IF NOT EXISTS citext"
                )
            finally:
                await connection.close()
            # A copy is refused while a session is there, and the server ends one a moment after its client.
            connection = await asyncpg.connect(self.url, timeout=30)
            try:
                while await connection.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = $1", name
                ):
                    await asyncio.sleep(0.05)
            finally:
                await connection.close()
            self._prepared = name
        return self._prepared

    def close(self) -> None:
        if self.process is None and self.made:
            statements = "\n".join(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);' for name in self.made)
            subprocess.run(
                [postgres_program("psql"), "-qX", self.url], input=statements, text=True, check=False
            )
        super().close()


class MySQL(Database):
    """MySQL with a row-format binary log, GTIDs and utf8mb4; nothing is synced."""

    def dsn(self, database: str = "mysql") -> str:
        return _with_database(self.url, database)

    async def fresh_database(self) -> str:
        """Make an empty utf8mb4 database and return its DSN."""
        name = f"t_{secrets.token_hex(8)}"
        await self._execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        self.made.append(name)
        return self.dsn(name)

    async def _execute(self, statement: str) -> None:
        import asyncmy

        connection = await asyncmy.connect(
            host=self.host, port=self.port, user=self.user, password=self.password, connect_timeout=30
        )
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(statement)
        finally:
            await connection.ensure_closed()

    def close(self) -> None:
        if self.process is None and self.made:
            for name in self.made:
                asyncio.run(self._execute(f"DROP DATABASE IF EXISTS `{name}`"))
        super().close()


class MariaDB(MySQL):
    """MariaDB, likewise; its GTIDs are its own."""


def postgres_program(name: str) -> str:
    """A PostgreSQL program: the newest of Debian's (which are not in PATH), or the one in PATH."""

    def version(path: Path) -> float:
        with contextlib.suppress(ValueError):
            return float(path.parent.parent.name)
        return 0.0

    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=version)
    if found:
        return str(found[-1])
    elsewhere = shutil.which(name)
    if elsewhere is None:
        raise FileNotFoundError(
            f"PostgreSQL's {name} is not here: install the package postgresql, "
            "or set S3GC_TEST_POSTGRES_DSN to a server"
        )
    return elsewhere


def _server_program(*names: str) -> str:
    for name in names:
        found = shutil.which(
            name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/usr/libexec"
        )
        if found:
            return found
    raise FileNotFoundError(
        f"{' or '.join(names)} is not here: install the package mariadb-server, "
        "or set S3GC_TEST_MARIADB_DSN to a server"
    )


def start_postgres(home: Home, name: str = "postgres", settings: dict[str, str] | None = None) -> Postgres:
    """A cluster of its own with a password-protected superuser; `settings` go onto the command line."""
    user, port, password = unprivileged("postgres"), free_port(), secrets.token_hex(12)
    folder = home.folder(name, user)
    password_file = folder / "password"
    password_file.write_text(password)
    if user is not None:
        shutil.chown(password_file, user)
    password_file.chmod(0o600)
    subprocess.run(
        [
            postgres_program("initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            "s3gc",
            "-A",
            "scram-sha-256",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            f"--pwfile={password_file}",
        ],
        env=plain_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
        **run_as(user),
    )
    options = {
        "listen_addresses": "127.0.0.1",
        "port": str(port),
        "unix_socket_directories": "",
        "fsync": "off",
        "full_page_writes": "off",
        "shared_buffers": "128MB",
        "wal_level": "logical",
        "max_prepared_transactions": "20",
        "max_replication_slots": "20",
        "max_wal_senders": "20",
        "max_connections": "100",
        "max_wal_size": "4GB",
        "log_min_messages": "warning",
        **(settings or {}),
    }
    ready = [postgres_program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"]
    process = Process(
        home,
        name,
        [
            postgres_program("postgres"),
            "-D",
            str(folder / "data"),
            *(f"--{key}={value}" for key, value in options.items()),
        ],
        lambda: subprocess.run(ready, check=False).returncode == 0,
        user=user,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        kill_signal=signal.SIGQUIT,  # "immediate": a crash that leaves no process behind
    )
    process.start()
    return Postgres(
        f"postgresql://s3gc:{password}@127.0.0.1:{port}/postgres", "S3GC_TEST_POSTGRES_DSN", process
    )


def start_pgbouncer(home: Home, postgres: Postgres, mode: str) -> Process:
    """A PgBouncer before `postgres`, in pool mode "session" or "transaction"; `pooled_url` leads through it."""
    user, port, name = unprivileged("postgres"), free_port(), f"pgbouncer-{mode}-{secrets.token_hex(3)}"
    folder = home.folder(name, user)
    parts = urlsplit(postgres.url)
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={parts.port} user={parts.username} password={parts.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        f"pool_mode = {mode}\nignore_startup_parameters = extra_float_digits\n"
    )
    (folder / "pgbouncer.ini").chmod(0o644)
    process = Process(
        home,
        name,
        [_server_program("pgbouncer"), str(folder / "pgbouncer.ini")],
        lambda: _answers(port),
        user=user,
        stop_signal=signal.SIGINT,
        environment={"POOLED_PORT": str(port)},
    )
    process.start()
    return process


def pooled_url(bouncer: Process, url: str) -> str:
    """`url` by way of `bouncer`."""
    parts = urlsplit(url)
    return parts._replace(
        netloc=f"{parts.username}:x@127.0.0.1:{bouncer.environment['POOLED_PORT']}"
    ).geturl()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _root_accounts(folder: Path, password: str) -> Path:
    """SQL for ``--init-file``, which runs at every start, before the port opens: `root` over TCP, with a password."""
    accounts = folder / "accounts.sql"
    accounts.write_text(
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n"
        "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n"
        f"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    accounts.chmod(0o644)
    return accounts


def start_mariadb(home: Home, name: str = "mariadb", settings: Sequence[str] = ()) -> MariaDB:
    """A data folder of its own; `root` connects over TCP with a password. `settings`: options of mariadbd."""
    user, port, password = unprivileged("mysql"), free_port(), secrets.token_hex(12)
    folder = home.folder(name, user)
    # Never the machine's own: a server that starts removes every temporary table that it finds there, and one whose
    # file is gone before it is opened ends another server with a segmentation fault.
    temporary = home.folder(f"{name}/tmp", user)
    subprocess.run(
        [
            _server_program("mariadb-install-db", "mysql_install_db"),
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            f"--tmpdir={temporary}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--innodb-flush-log-at-trx-commit=0",
        ],
        env=plain_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
        **run_as(user),
    )
    accounts = _root_accounts(folder, password)
    ready = [
        "mariadb",
        "--no-defaults",
        "--connect-timeout=2",
        "-h",
        "127.0.0.1",
        "-P",
        str(port),
        "-u",
        "root",
        "-e",
        "SELECT 1",
    ]
    process = Process(
        home,
        name,
        [
            _server_program("mariadbd", "mysqld"),
            "--no-defaults",
            f"--datadir={folder / 'data'}",
            f"--tmpdir={temporary}",
            f"--init-file={accounts}",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--socket={folder / 's'}",
            f"--pid-file={folder / 'pid'}",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--collation-server=utf8mb4_unicode_ci",
            "--server-id=1",
            "--log-bin=binlog",
            "--binlog-format=ROW",
            "--binlog-row-image=FULL",
            "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=128M",
            "--innodb-flush-method=nosync",
            "--max-connections=100",
            *settings,
        ],
        lambda: (
            subprocess.run(
                ready,
                env={**plain_environment(), "MYSQL_PWD": password},
                check=False,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ).returncode
            == 0
        ),
        user=user,
    )
    process.start()
    return MariaDB(f"mysql://root:{password}@127.0.0.1:{port}/mysql", "S3GC_TEST_MARIADB_DSN", process)


def start_mysql(home: Home, name: str = "mysql", settings: Sequence[str] = ()) -> MySQL:
    """A data folder of its own; `root` connects over TCP with a password. `settings`: options of mysqld."""
    port, password = free_port(), secrets.token_hex(12)
    folder = home.folder(name)
    temporary = home.folder(f"{name}/tmp")
    # It lies in the folder of whoever built the tools, so it runs as that user; for root it has to be told so.
    program = [*mysqld(), *(["--user=root"] if os.geteuid() == 0 else [])]
    common = [f"--datadir={folder / 'data'}", f"--tmpdir={temporary}", "--secure-file-priv=NULL"]
    subprocess.run(
        [*program, "--initialize-insecure", *common, "--innodb-redo-log-capacity=16M"],
        env=plain_environment(),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    accounts = _root_accounts(folder, password)
    process = Process(
        home,
        name,
        [
            *program,
            *common,
            f"--init-file={accounts}",
            "--bind-address=127.0.0.1",
            f"--port={port}",
            f"--socket={folder / 's'}",
            f"--pid-file={folder / 'pid'}",
            "--mysqlx=OFF",
            "--skip-name-resolve",
            "--character-set-server=utf8mb4",
            "--server-id=1",
            "--log-bin=binlog",
            "--gtid-mode=ON",
            "--enforce-gtid-consistency=ON",
            "--sync-binlog=0",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-buffer-pool-size=128M",
            "--innodb-redo-log-capacity=64M",
            "--performance-schema-consumer-events-statements-current=OFF",
            "--max-connections=100",
            *settings,
        ],
        lambda: _answers(port),
    )
    process.start()
    return MySQL(f"mysql://root:{password}@127.0.0.1:{port}/mysql", "S3GC_TEST_MYSQL_DSN", process)


def postgres_from_environment() -> Postgres | None:
    url = os.environ.get("S3GC_TEST_POSTGRES_DSN")
    return Postgres(url, "S3GC_TEST_POSTGRES_DSN") if url else None


def mariadb_from_environment() -> MariaDB | None:
    url = os.environ.get("S3GC_TEST_MARIADB_DSN")
    return MariaDB(url, "S3GC_TEST_MARIADB_DSN") if url else None


def mysql_from_environment() -> MySQL | None:
    url = os.environ.get("S3GC_TEST_MYSQL_DSN")
    return MySQL(url, "S3GC_TEST_MYSQL_DSN") if url else None
