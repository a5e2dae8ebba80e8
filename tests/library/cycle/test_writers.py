"""Live writers beside repeated executes lose nothing, on PostgreSQL and MariaDB; without the check at the end they do.

Six connections insert, update, delete, roll back and commit late. Each keeps the rule that an application must keep:
the row first (its lock is held), then the look whether the object is there, then the commit.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.library.cycle.rows import COLUMN, MariaRows, PostgresRows, Rows
from tests.library.cycle.world import World
from tests.testbed.services import MariaDB, MySQL, Postgres, S3Server

from s3gc.config import S3GCConfig
from s3gc.results import VerificationLevel
from s3gc.sweep.check import CheckResult

WRITERS, OBJECTS, REFERENCED = 6, 120, 20
LIMITS = {"max_delete_percent": None, "max_reference_drop_percent": 100, "min_resolved_percent": 0}


class Connection(ABC):
    """One connection of an application, in transactions of its own."""

    @abstractmethod
    async def run(self, statement: str, *arguments: Any) -> None: ...

    @abstractmethod
    async def end(self, *, commit: bool) -> None: ...

    @abstractmethod
    async def close(self) -> None: ...


class PostgresConnection(Connection):
    def __init__(self, connection: Any) -> None:
        self._connection, self._transaction = connection, None

    @classmethod
    async def open(cls, rows: PostgresRows) -> PostgresConnection:
        # Visible before it is on disk, now and then: what was captured must not end at what is flushed.
        commit = random.choice(["on", "off"])
        return cls(await asyncpg.connect(rows.url, server_settings={"synchronous_commit": commit}))

    async def run(self, statement: str, *arguments: Any) -> None:
        if self._transaction is None:
            self._transaction = self._connection.transaction()
            await self._transaction.start()
        for number in range(len(arguments)):
            statement = statement.replace("?", f"${number + 1}", 1)
        await self._connection.execute(statement, *arguments)

    async def end(self, *, commit: bool) -> None:
        transaction, self._transaction = self._transaction, None
        await (transaction.commit() if commit else transaction.rollback())

    async def close(self) -> None:
        await self._connection.close()


class MariaConnection(Connection):
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    async def open(cls, rows: MariaRows) -> MariaConnection:
        return cls(await rows.connect(autocommit=False))

    async def run(self, statement: str, *arguments: Any) -> None:
        async with self._connection.cursor() as cursor:
            await cursor.execute(statement.replace("?", "%s"), arguments)

    async def end(self, *, commit: bool) -> None:
        await (self._connection.commit() if commit else self._connection.rollback())

    async def close(self) -> None:
        await self._connection.ensure_closed()


class Writers:
    def __init__(self, world: World, seed: int) -> None:
        self.world, self.seed = world, seed
        self.commits = self.rollbacks = 0
        # Each writer has rows of its own: what is tried here is s3gc, not the database's deadlocks.
        self._numbers = [itertools.count((number + 1) * 1_000_000) for number in range(WRITERS)]
        self._mine: list[list[int]] = [[] for _ in range(WRITERS)]

    async def exists(self, key: str) -> bool:
        def look() -> bool:
            found = self.world.client.list_objects_v2(Bucket=self.world.bucket, Prefix=key)
            return int(found.get("KeyCount", 0)) > 0

        return await asyncio.to_thread(look)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Six of them, until the block ends; then all their transactions are over."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._write(number, stop)) for number in range(WRITERS)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _write(self, number: int, stop: asyncio.Event) -> None:
        chance, mine = random.Random(self.seed * WRITERS + number), self._mine[number]
        rows = self.world.rows
        connection: Connection = (
            await PostgresConnection.open(rows)
            if isinstance(rows, PostgresRows)
            else await MariaConnection.open(rows)  # type: ignore[arg-type]
        )
        keys = sorted(self.world.bodies)
        while not stop.is_set():
            row = next(self._numbers[number])
            key = chance.choice(keys)
            await connection.run(f"insert into files(id, {rows.column}) values (?, ?)", row, key)
            if chance.random() < 0.3:
                key = chance.choice(keys)
                moved = next(self._numbers[number])  # into another partition, where there are any
                await connection.run(
                    f"update files set {rows.column} = ?, id = ? where id = ?", key, moved, row
                )
                row = moved
            dropped = mine.pop(chance.randrange(len(mine))) if mine and chance.random() < 0.4 else None
            if dropped is not None:
                await connection.run("delete from files where id = ?", dropped)
            commits = chance.random() < 0.75 and await self.exists(key)
            await asyncio.sleep(chance.uniform(0, 0.4))
            await connection.end(commit=commits)
            if commits:
                mine.append(row)
            elif dropped is not None:
                mine.append(dropped)
            self.commits += commits
            self.rollbacks += not commits
        await connection.close()


async def prepare(server: S3Server, rows: Rows, vault: Path, seed: int) -> World:
    world = await World(server, rows, vault).begin()
    await world.upload({f"w/{seed}/{number:04d}.bin": b"%d" % number for number in range(OBJECTS)})
    await rows.insert(sorted(world.bodies)[:REFERENCED])
    return world


async def missing(world: World) -> set[str]:
    """What a committed row names and is not there."""
    present = await asyncio.to_thread(world.present)
    return await world.referenced() - present.keys()


async def executes_beside_writers(world: World, config: S3GCConfig, seed: int, cycles: int = 2) -> int:
    """Run cycles while six write; returns how many late references they restored."""
    writers, late = Writers(world, seed), 0
    for number in range(cycles):
        async with writers.at_work():
            await asyncio.sleep(0.3)
            result = await world.run(config)
        assert result.verified, result.errors
        if config.cdc_backend is not None:
            assert result.verification is VerificationLevel.CDC, result.verification_reason
        late += result.late_references
        # No later cycle has had a chance to heal anything: this one alone must have lost nothing.
        gone = await missing(world)
        assert not gone, f"cycle {number}: referenced and gone: {sorted(gone)[:5]}"
    assert writers.commits > 5
    assert writers.rollbacks > 0
    return late


#: How deletions are verified, see `fresh`; with change capture PostgreSQL's table has partitions.
DATABASES = ["postgres", "postgres-cdc", "mariadb-process", "mariadb-share-lock", "mariadb-cdc"]
#: MySQL differs from MariaDB where its log is followed; the rest of it runs in `make soak`.
MYSQL = ["mysql-cdc", "mysql-process", "mysql-share-lock"]


@pytest.fixture
def fresh(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """``await fresh(database)()``: rows in a new database, and what to change of the policy to read them by."""

    def of(database: str) -> Callable[[], Any]:
        server: Postgres | MySQL = request.getfixturevalue(database.partition("-")[0])

        async def make() -> tuple[Rows, dict[str, Any]]:
            if isinstance(server, Postgres):
                table = await PostgresRows.fresh(server)
                if database == "postgres-cdc":
                    await table.partition()
                    return table, {"cdc_backend": "postgres"}
                return table, {}
            rows = await MariaRows.fresh(server)
            if database.endswith("-cdc"):
                url = await rows.user(
                    "follower",
                    "grant select on {database}.* to {user}",
                    "grant process, replication slave, {monitor} on *.* to {user}",
                )
                return rows, {"database_url": url, "cdc_backend": "mysql"}
            if database.endswith("-process"):
                url = await rows.user(
                    "with_process", "grant select on {database}.* to {user}", "grant process on *.* to {user}"
                )
                return rows, {"database_url": url}
            url = await rows.user("select_only", "grant select on {database}.* to {user}")
            return rows, {"tables": {}, "database_url": None, "sources": [keyed(url)]}

        return make

    return of


def keyed(url: str, name: str = "database") -> dict[str, Any]:
    """A source whose one column is an exact key."""
    columns = [{"name": COLUMN, "format": "key"}]
    return {"name": name, "url": url, "tables": [{"table": "files", "columns": columns}]}


def policy(world: World, changes: dict[str, Any]) -> S3GCConfig:
    return world.config(limits=LIMITS, group_objects=20, canary_objects=5, **changes)


def loop_of_seeds(default: int) -> range:
    first = int(os.environ.get("S3GC_SOAK_SEED", "0"))
    return range(first, first + default)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("database", [*DATABASES, MYSQL[0]])
async def test_live_writers_beside_repeated_executes_lose_nothing(
    minio: S3Server,
    fresh: Callable[[str], Any],
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
    database: str,
) -> None:
    credentials(minio)
    make, late = fresh(database), 0
    for seed in loop_of_seeds(5 if database in DATABASES else 2):
        rows, changes = await make()
        world = await prepare(minio, rows, tmp_path / f"vault-{seed}", seed)
        try:
            # One cycle a seed is enough where the two differ only in how a key is asked for.
            cycles = 1 if database.endswith("-cdc") else 2
            late += await executes_beside_writers(world, policy(world, changes), seed, cycles=cycles)
        except AssertionError as error:
            raise AssertionError(f"S3GC_SOAK_SEED={seed}: {error}") from error
    assert late > 0, "no transaction was ever open at the wrong moment: this has shown nothing"


@pytest.mark.soak
@pytest.mark.parametrize("database", [*DATABASES, *MYSQL])
async def test_many_seeds_of_live_writers_lose_nothing(
    minio: S3Server,
    fresh: Callable[[str], Any],
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
    database: str,
    soak_seconds: float,
) -> None:
    credentials(minio)
    make, late, began = fresh(database), 0, time.monotonic()
    for seed in loop_of_seeds(int(os.environ.get("S3GC_SOAK_SEEDS", "500"))):
        if time.monotonic() - began > soak_seconds:
            break
        rows, changes = await make()
        world = await prepare(minio, rows, tmp_path / f"vault-{seed}", seed)
        try:
            found = await executes_beside_writers(world, policy(world, changes), seed, cycles=3)
        except AssertionError as error:
            raise AssertionError(f"S3GC_SOAK_SEED={seed}: {error}") from error
        late += found
        print(f"writers {database}: seed {seed}: {found} late references restored, {late} in all", flush=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("database", DATABASES)
async def test_without_the_check_at_the_end_live_writers_do_lose(
    minio: S3Server,
    fresh: Callable[[str], Any],
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database: str,
) -> None:
    """The mutant: if this did not lose, the test above could not see a loss."""

    async def no_check(*_: object, **__: object) -> CheckResult:
        return CheckResult()

    monkeypatch.setattr("s3gc.cycle.story.check_operation", no_check)
    credentials(minio)
    make, lost = fresh(database), 0
    for seed in range(10):
        rows, changes = await make()
        world = await prepare(minio, rows, tmp_path / f"vault-{seed}", seed)
        writers = Writers(world, seed)
        async with writers.at_work():
            await asyncio.sleep(0.3)
            await world.run(policy(world, changes))
        lost += len(await missing(world))
        if lost:
            return
    raise AssertionError("ten seeds without the check, and nothing was lost")


async def test_without_process_or_a_share_lock_execute_is_refused_with_the_grant_to_give(
    minio: S3Server, mariadb: MariaDB, credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    """A column of any format has to be read as a whole, and only PROCESS shows whose writes are still open then."""
    from s3gc.exceptions import ConfigurationError

    credentials(minio)
    rows = await MariaRows.fresh(mariadb)
    world = await World(minio, rows, tmp_path / "vault").begin()
    await world.upload({"a.bin": b"1", "b.bin": b"2"})
    await rows.insert(["a.bin"])
    url = await rows.user("reader_only", "grant select on {database}.* to {user}")
    with pytest.raises(ConfigurationError, match="GRANT PROCESS ON") as caught:
        await world.run(world.config(database_url=url))
    assert "'reader_only'@'%'" in str(caught.value)
    assert world.present() == world.bodies
    # A dry run needs neither, and each of the two ways out is enough.
    assert (await world.run(world.config(database_url=url, mode="dry_run"))).verified_orphans == 1
    await rows.execute("alter table files drop index by_key")
    with pytest.raises(ConfigurationError, match="has no index"):
        await world.run(world.config(tables={}, database_url=None, sources=[keyed(url)]))
    await rows.execute(f"alter table files add index by_key({rows.column})")
    result = await world.run(world.config(tables={}, database_url=None, sources=[keyed(url)]))
    assert (result.deleted_count, str(result.verification)) == (1, "query"), result.errors
