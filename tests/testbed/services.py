"""Real servers as objects: MinIO, versitygw, PostgreSQL and MariaDB, each on a free port of 127.0.0.1.

`tests/conftest.py` makes fixtures of them and `benchmarks/` uses them directly. Data lies in one temporary folder
per process, `Home`. A watchdog process holds the read end of a pipe and the pids of the servers: when this process
ends in any way at all (SIGKILL included), the pipe closes and the watchdog ends the servers and removes the folder.
Every process is ended by its pid. Under pytest-xdist each worker is a process, so each has servers of its own.

Your own servers are used in place of these where the environment names them (see `docs/development.md`); they are
never stopped, and the databases and buckets that tests made there are dropped.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit, urlunsplit

from tests.testbed import tools

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: How long a server may take to answer after its start, in seconds. Generous: machines that build are slow.
START_SECONDS = 90

_WATCHDOG = """
import os, shutil, signal, sys, time
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
servers = {}
for line in sys.stdin:
    word, pid, started, number = line.split()
    if word == "+":
        servers[int(pid)] = (started, int(number))
    else:
        servers.pop(int(pid), None)
def alive(pid, started):
    try:
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == started and fields[0] != "Z"
def end(number_of):
    for pid, (started, number) in servers.items():
        if alive(pid, started):
            try:
                os.kill(pid, number_of(number))
            except OSError:
                pass
end(lambda number: number)
for _ in range(50):
    if not any(alive(pid, started) for pid, (started, _) in servers.items()):
        break
    time.sleep(0.1)
end(lambda number: signal.SIGKILL)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


class Home:
    """The temporary folder of one process's servers, and the watchdog that outlives this process for a moment."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="s3gc-testbed-"))
        self.path.chmod(0o755)  # PostgreSQL and MariaDB run as other users below it
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-c", _WATCHDOG, str(self.path)],
            stdin=subprocess.PIPE, text=True, bufsize=1, cwd="/", start_new_session=True,
        )  # fmt: skip

    def tell(self, word: str, pid: int, signal_number: int) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(f"{word} {pid} {_start_time(pid)} {signal_number}\n")
        self._watchdog.stdin.flush()

    def folder(self, name: str, owner: str | None = None) -> Path:
        path = self.path / name
        path.mkdir(parents=True)
        if owner is not None:
            shutil.chown(path, owner)
        return path

    def close(self) -> None:
        """End what still runs and remove the folder."""
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait(timeout=30)


@dataclass
class Process:
    """One server process that can be stopped, killed and started again on the same port with the same data.

    `user` is whom it runs as when we are root; `stop_signal` asks it to end at once but in order, `kill_signal`
    is its crash.
    """

    home: Home
    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home.path / f"{self.name}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    list(self.command), env={**_plain_environment(), **self.environment}, cwd=self.home.path,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, **_run_as(self.user),
                )  # fmt: skip
            self.home.tell("+", self._process.pid, self.stop_signal)
            while self._process.poll() is None and time.monotonic() < deadline:
                if self.is_ready():
                    return
                time.sleep(0.05)
            # It may have ended because the crashed one before it has not quite gone (PostgreSQL's shared memory).
            ended = self._process.poll() is not None
            self._end(signal.SIGKILL)
            if not ended or time.monotonic() > deadline - START_SECONDS + 15:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(
                    f"{self.name} did not start within {START_SECONDS} s; the end of its log:\n{tail}"
                )
            time.sleep(0.5)

    def stop(self) -> None:
        """End it in order (it forgets nothing that it promised)."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a crash does. `restart()` brings it back on the same port with the same data."""
        self._end(self.kill_signal)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)
        self.home.tell("-", process.pid, 0)


def _plain_environment() -> dict[str, str]:
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
    return {name: os.environ[name] for name in keep if name in os.environ}


def _run_as(user: str | None) -> dict[str, Any]:
    """Popen's arguments that change to `user`; empty unless we are root."""
    if user is None or os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _unprivileged(*names: str) -> str | None:
    """The first of `names` that this machine knows, for servers that refuse to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise RuntimeError(f"none of the users {names} exists to run a server as")


def _not_ours(variable: str) -> RuntimeError:
    return RuntimeError(f"the server that {variable} names is not ours to stop; unset it to run this test")


# --- S3 -------------------------------------------------------------------------------------


@dataclass
class S3Server:
    """An S3 server: where it is and its root credentials. `process` is None for a server of the environment's."""

    name: str
    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"
    process: Process | None = None
    data: Path | None = None
    buckets: list[str] = field(default_factory=list)  # made by make_bucket

    @classmethod
    def from_environment(cls, name: str) -> S3Server | None:
        prefix = f"S3GC_TEST_{name.upper()}_"
        endpoint = os.environ.get(f"{prefix}ENDPOINT")
        if not endpoint:
            return None
        missing = [n for n in ("ACCESS_KEY", "SECRET_KEY") if not os.environ.get(prefix + n)]
        if missing:
            raise RuntimeError(
                f"{prefix}ENDPOINT is set, but {', '.join(prefix + n for n in missing)} is not"
            )
        return cls(
            name, endpoint.rstrip("/"), os.environ[f"{prefix}ACCESS_KEY"], os.environ[f"{prefix}SECRET_KEY"]
        )

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables with which any client reaches this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region, "AWS_REGION": self.region, "AWS_ENDPOINT_URL_S3": self.endpoint,
        }  # fmt: skip

    def _own(self) -> Process:
        if self.process is None:
            raise _not_ours(f"S3GC_TEST_{self.name.upper()}_ENDPOINT")
        return self.process

    def kill(self) -> None:
        self._own().kill()

    def start(self) -> None:
        self._own().start()

    def restart(self) -> None:
        self._own().restart()

    def close(self) -> None:
        """Stop ours; empty and remove the test buckets of somebody else's."""
        if self.process is not None:
            self.process.stop()
        else:
            for bucket in self.buckets:
                remove_bucket(self, bucket)


def _answers(server: S3Server) -> Callable[[], bool]:
    """Whether the server lists its buckets with these credentials: the one check that proves it all."""

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", urlsplit(server.endpoint).port or 80), timeout=1):
                pass
            s3_client(server, attempts=1, timeout_seconds=2).list_buckets()
        except Exception:
            return False
        return True

    return ready


def start_minio(home: Home, name: str = "minio", data: Path | None = None) -> S3Server:
    """MinIO on one temporary folder, or on `data`, which is kept."""
    port, console = free_port(), free_port()
    folder = data or home.folder(f"{name}-data")
    server = S3Server(
        "minio", f"http://127.0.0.1:{port}", "root" + secrets.token_hex(6), secrets.token_hex(16), data=folder
    )
    server.process = Process(
        home, name,
        [str(tools.binary("minio")), "server", "--quiet", "--address", f"127.0.0.1:{port}",
         "--console-address", f"127.0.0.1:{console}", str(folder)],
        _answers(server),
        environment={
            "MINIO_ROOT_USER": server.access_key, "MINIO_ROOT_PASSWORD": server.secret_key,
            "MINIO_BROWSER": "off", "MINIO_UPDATE": "off", "HOME": str(home.path),
        },
    )  # fmt: skip
    server.process.start()
    return server


def start_versitygw(home: Home, name: str = "versitygw") -> S3Server:
    """versitygw over a temporary folder (which must carry extended attributes), with versioning available."""
    port = free_port()
    folder, versions = home.folder(f"{name}-data"), home.folder(f"{name}-versions")
    server = S3Server(
        "versitygw",
        f"http://127.0.0.1:{port}",
        "root" + secrets.token_hex(6),
        secrets.token_hex(16),
        data=folder,
    )
    server.process = Process(
        home, name,
        [str(tools.binary("versitygw")), "--quiet", "--keep-alive", "--port", f"127.0.0.1:{port}",
         "posix", "--versioning-dir", str(versions), str(folder)],
        _answers(server),
        environment={"ROOT_ACCESS_KEY_ID": server.access_key, "ROOT_SECRET_ACCESS_KEY": server.secret_key},
    )  # fmt: skip
    server.process.start()
    return server


def s3_client(server: S3Server, *, attempts: int = 3, timeout_seconds: float = 30) -> S3Client:
    """A boto3 client of `server`: path style, and nothing of the machine's own configuration."""
    import boto3
    from botocore.config import Config

    session = boto3.session.Session(aws_access_key_id=server.access_key, aws_secret_access_key=server.secret_key,
                                    region_name=server.region)  # fmt: skip
    config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": attempts, "mode": "standard"}, proxies={},
                    connect_timeout=timeout_seconds, read_timeout=timeout_seconds, max_pool_connections=64)  # fmt: skip
    return session.client("s3", endpoint_url=server.endpoint, config=config)


def make_bucket(server: S3Server, versioning: bool = False, lock: bool = False) -> str:
    """Make a bucket with a name of its own and return the name. `lock` (Object Lock) includes versioning."""
    client = s3_client(server)
    name = f"t-{secrets.token_hex(8)}"
    if lock:
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    else:
        client.create_bucket(Bucket=name)
    server.buckets.append(name)
    if versioning:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def remove_bucket(server: S3Server, name: str) -> None:
    """Remove a test bucket and all in it; what retention protects stays, without an error."""
    client = s3_client(server)
    with contextlib.suppress(Exception):
        for page in client.get_paginator("list_object_versions").paginate(Bucket=name):
            for version in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                with contextlib.suppress(Exception):
                    client.delete_object(Bucket=name, Key=version["Key"], VersionId=version["VersionId"],
                                         BypassGovernanceRetention=True)  # fmt: skip
        client.delete_bucket(Bucket=name)


# --- databases ------------------------------------------------------------------------------


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
            raise _not_ours(self.variable)
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
    """PostgreSQL with `wal_level=logical`, prepared transactions and the contrib extensions; nothing is synced."""

    def dsn(self, database: str = "postgres") -> str:
        return _with_database(self.url, database)

    async def fresh_database(self) -> str:
        """Make an empty database with hstore and citext in it and return its DSN."""
        import asyncpg

        name = f"t_{secrets.token_hex(8)}"
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
        return self.dsn(name)

    def close(self) -> None:
        if self.process is None and self.made:
            statements = "\n".join(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE);' for name in self.made)
            subprocess.run(
                [_postgres_binary("psql"), "-qX", self.url], input=statements, text=True, check=False
            )
        super().close()


class MariaDB(Database):
    """MariaDB with a row-format binary log and utf8mb4; nothing is synced."""

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

        connection = await asyncmy.connect(host=self.host, port=self.port, user=self.user, password=self.password,
                                           connect_timeout=30)  # fmt: skip
        try:
            async with connection.cursor() as cursor:
                await cursor.execute(statement)
        finally:
            await connection.ensure_closed()

    def close(self) -> None:
        if self.process is None and self.made:
            statements = "\n".join(f"DROP DATABASE IF EXISTS `{name}`;" for name in self.made)
            subprocess.run(
                ["mariadb", "--no-defaults", "-h", self.host, "-P", str(self.port), "-u", self.user],
                env={**_plain_environment(), "MYSQL_PWD": self.password}, input=statements, text=True, check=False,
            )  # fmt: skip
        super().close()


def _postgres_binary(name: str) -> str:
    """A PostgreSQL program: the newest of Debian's versions, or the one in PATH. Debian keeps them out of PATH."""

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
            f"PostgreSQL's {name} is not here: install the package postgresql, or set S3GC_TEST_POSTGRES_DSN to a server"
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
        f"{' or '.join(names)} is not here: install the package mariadb-server, or set S3GC_TEST_MARIADB_DSN to a server"
    )


def start_postgres(home: Home, name: str = "postgres", settings: dict[str, str] | None = None) -> Postgres:
    """A cluster of its own with a password-protected superuser; `settings` go onto the command line."""
    user, port, password = _unprivileged("postgres"), free_port(), secrets.token_hex(12)
    folder = home.folder(name, user)
    password_file = folder / "password"
    password_file.write_text(password)
    if user is not None:
        shutil.chown(password_file, user)
    password_file.chmod(0o600)
    subprocess.run(
        [_postgres_binary("initdb"), "-D", str(folder / "data"), "-U", "s3gc", "-A", "scram-sha-256", "-E", "UTF8",
         "--locale=C.UTF-8", "--no-sync", f"--pwfile={password_file}"],
        env=_plain_environment(), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, **_run_as(user),
    )  # fmt: skip
    options = {
        "listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "",
        "fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB",
        "wal_level": "logical", "max_prepared_transactions": "20", "max_replication_slots": "20", "max_wal_senders": "20",
        "max_connections": "100", "max_wal_size": "4GB", "log_min_messages": "warning", **(settings or {}),
    }  # fmt: skip
    ready = [_postgres_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-t", "2"]
    process = Process(
        home, name,
        [_postgres_binary("postgres"), "-D", str(folder / "data"), *(f"--{key}={value}" for key, value in options.items())],
        lambda: subprocess.run(ready, check=False).returncode == 0,
        user=user,
        stop_signal=signal.SIGINT,  # "fast": ends sessions, writes a checkpoint
        kill_signal=signal.SIGQUIT,  # "immediate": as a crash, recovers at the next start, and leaves no process behind
    )  # fmt: skip
    process.start()
    return Postgres(
        f"postgresql://s3gc:{password}@127.0.0.1:{port}/postgres", "S3GC_TEST_POSTGRES_DSN", process
    )


def start_mariadb(home: Home, name: str = "mariadb", settings: Sequence[str] = ()) -> MariaDB:
    """A data folder of its own; `root` connects over TCP with a password. `settings` are further options of mariadbd."""
    user, port, password = _unprivileged("mysql"), free_port(), secrets.token_hex(12)
    folder = home.folder(name, user)
    subprocess.run(
        [_server_program("mariadb-install-db", "mysql_install_db"), "--no-defaults", f"--datadir={folder / 'data'}",
         "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"],
        env=_plain_environment(), cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=True, **_run_as(user),
    )  # fmt: skip
    accounts = folder / "accounts.sql"  # runs at every start, before the port opens
    accounts.write_text(
        f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n"
        "CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';\n"
        f"ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';\n"
        "GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;\n"
    )
    accounts.chmod(0o644)
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
        home, name,
        [_server_program("mariadbd", "mysqld"), "--no-defaults", f"--datadir={folder / 'data'}", f"--init-file={accounts}",
         "--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder / 's'}", f"--pid-file={folder / 'pid'}",
         "--skip-name-resolve", "--character-set-server=utf8mb4", "--collation-server=utf8mb4_unicode_ci",
         "--server-id=1", "--log-bin=binlog", "--binlog-format=ROW", "--binlog-row-image=FULL", "--sync-binlog=0",
         "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=128M", "--innodb-flush-method=nosync",
         "--max-connections=100", *settings],
        lambda: subprocess.run(ready, env={**_plain_environment(), "MYSQL_PWD": password}, check=False,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0,
        user=user,
    )  # fmt: skip
    process.start()
    return MariaDB(f"mysql://root:{password}@127.0.0.1:{port}/mysql", "S3GC_TEST_MARIADB_DSN", process)


def postgres_from_environment() -> Postgres | None:
    url = os.environ.get("S3GC_TEST_POSTGRES_DSN")
    return Postgres(url, "S3GC_TEST_POSTGRES_DSN") if url else None


def mariadb_from_environment() -> MariaDB | None:
    url = os.environ.get("S3GC_TEST_MARIADB_DSN")
    return MariaDB(url, "S3GC_TEST_MARIADB_DSN") if url else None
