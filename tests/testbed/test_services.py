"""The test bed itself: servers answer, come back after a crash with their data; none outlives its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.testbed.services import (
    Home,
    MariaDB,
    Postgres,
    S3Server,
    make_bucket,
    s3_client,
    start_minio,
    start_postgres,
)

ROOT = Path(__file__).resolve().parents[2]


def test_each_s3_server_keeps_bytes_and_versions(s3: S3Server) -> None:
    client, bucket = s3_client(s3), make_bucket(s3, versioning=True)
    client.put_object(Bucket=bucket, Key="a b/ü.txt", Body=b"one")
    client.put_object(Bucket=bucket, Key="a b/ü.txt", Body=b"two")
    assert client.get_object(Bucket=bucket, Key="a b/ü.txt")["Body"].read() == b"two"
    assert len(client.list_object_versions(Bucket=bucket)["Versions"]) == 2


def test_each_s3_server_makes_a_bucket_with_object_lock(s3: S3Server) -> None:
    answer = s3_client(s3).get_object_lock_configuration(Bucket=make_bucket(s3, lock=True))
    assert answer["ObjectLockConfiguration"]["ObjectLockEnabled"] == "Enabled"


async def test_postgres_gives_fresh_databases_with_extensions(postgres: Postgres) -> None:
    import asyncpg

    first, second = await postgres.fresh_database(), await postgres.fresh_database()
    assert first != second
    connection = await asyncpg.connect(first)
    try:
        assert (
            await connection.fetchval("select ('a=>1'::hstore -> 'a') || ('X'::citext = 'x')::text")
            == "1true"
        )
        assert await connection.fetchval("show wal_level") == "logical"
        assert int(await connection.fetchval("show max_prepared_transactions")) > 0
    finally:
        await connection.close()


async def test_mariadb_gives_fresh_databases_with_a_row_binlog(mariadb: MariaDB) -> None:
    import asyncmy

    dsn = await mariadb.fresh_database()
    connection = await asyncmy.connect(
        host=mariadb.host,
        port=mariadb.port,
        user=mariadb.user,
        password=mariadb.password,
        database=dsn.rpartition("/")[2],
    )
    try:
        async with connection.cursor() as cursor:
            await cursor.execute("select @@binlog_format, @@log_bin, @@character_set_database")
            assert await cursor.fetchone() == ("ROW", 1, "utf8mb4")
    finally:
        await connection.ensure_closed()


async def test_a_crashed_server_comes_back_with_what_it_promised(testbed_home: Home) -> None:
    import asyncpg

    server = start_postgres(testbed_home, "postgres-crash")
    try:
        dsn = await server.fresh_database()
        connection = await asyncpg.connect(dsn)
        await connection.execute("create table t as select generate_series(1, 1000) as i")
        server.kill()
        with pytest.raises((OSError, asyncpg.PostgresError)):
            await asyncpg.connect(dsn, timeout=5)
        server.start()
        connection = await asyncpg.connect(dsn)
        assert await connection.fetchval("select count(*) from t") == 1000
        await connection.close()
    finally:
        server.close()


def test_a_killed_minio_comes_back_on_the_same_port(testbed_home: Home) -> None:
    server = start_minio(testbed_home, "minio-crash")
    try:
        bucket = make_bucket(server)
        s3_client(server).put_object(Bucket=bucket, Key="k", Body=b"v")
        server.kill()
        server.start()
        assert s3_client(server).get_object(Bucket=bucket, Key="k")["Body"].read() == b"v"
    finally:
        server.close()


def test_servers_and_their_data_are_gone_when_the_tests_are_killed() -> None:
    program = (
        "import os, sys, time; from tests.testbed.services import Home, start_minio, start_postgres\n"
        "home = Home(); servers = [start_minio(home), start_postgres(home)]\n"
        "print(home.path, *(server.process.pid for server in servers), flush=True); time.sleep(300)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    folder, *pids = child.stdout.readline().split()
    assert len(pids) == 2
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (Path(folder).exists() or any(_alive(int(pid)) for pid in pids)):
        time.sleep(0.1)
    assert not Path(folder).exists()
    assert not any(_alive(int(pid)) for pid in pids)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
