"""Killed at any instant, the next run carries on: real processes, real SIGKILL, at random moments.

Rows and objects change between the runs. After every cycle that ends, each referenced object ever uploaded must
be there with its bytes; at the end every deleted byte must come back.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite
import asyncpg
import pytest
from tests.library.cycle.world import AtPhase, World
from tests.testbed.services import Postgres, S3Server

from s3gc import initialize_gc_state, shutdown_gc_state
from s3gc.backup.restore import restore_operation
from s3gc.sweep.check import CheckResult

ROOT = Path(__file__).parents[3]


class Story:
    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random = world, random.Random(seed)
        self.kills = self.cycles = self.uploads = 0

    async def mutate(self) -> None:
        rnd, world = self.random, self.world
        fresh = {
            f"s/{self.uploads + i:05d}.bin": rnd.randbytes(rnd.choice([0, 1, 40, 3000])) for i in range(25)
        }
        self.uploads += len(fresh)
        await world.upload(fresh)
        await world.reference(rnd.sample(sorted(fresh), 15))
        await world.reference(rnd.sample(sorted(world.bodies), 5))  # old ones, deleted ones among them
        gone = rnd.sample(sorted(await world.referenced()), 8)
        await world.execute("delete from files where key = any($1::text[])", gone)

    def settings(self) -> dict[str, Any]:
        world = self.world
        return {
            "bucket": world.bucket,
            "endpoint_url": world.server.endpoint,
            "path_style": True,
            "tables": {"files": ["key"]},
            "database_url": world.dsn,
            "mode": "execute",
            "retention_days": 0,
            "limits": {
                "max_delete_percent": None,
                "max_reference_drop_percent": 100,
                "min_resolved_percent": 0,
            },
            "vault_path": str(world.vault),
            "canary_objects": 2,
            "group_objects": 4,
            "concurrency": 4,
        }

    async def cycle(self, kill_after: float | None) -> dict[str, Any] | None:
        """Run one; None when it was killed before its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.library.cycle.runner",
            json.dumps(self.settings()),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        if kill_after is not None:
            try:
                await asyncio.wait_for(process.wait(), kill_after)
            except TimeoutError:
                process.send_signal(signal.SIGKILL)
                self.kills += 1
        out, err = await process.communicate()
        if process.returncode == -signal.SIGKILL:
            return None
        assert process.returncode == 0, err.decode()[-3000:]
        self.cycles += 1
        result: dict[str, Any] = json.loads(out)
        return result

    async def nothing_is_lost(self) -> None:
        present = await asyncio.to_thread(self.world.present)
        for key in await self.world.referenced():
            assert present.get(key) == self.world.bodies[key], f"{key} is referenced and not there as it was"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("versioning", "server"), [(True, "minio"), (False, "versitygw")])
async def test_killed_at_any_instant_nothing_is_lost_and_every_byte_comes_back(
    versioning: bool,
    server: str,
    request: pytest.FixtureRequest,
    postgres: Postgres,
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
) -> None:
    s3: S3Server = request.getfixturevalue(server)
    credentials(s3)
    dsn = await postgres.fresh_database()
    world = await World(s3, dsn, tmp_path / "vault", versioning=versioning).begin()
    story = Story(world, seed=int(os.environ.get("S3GC_SOAK_SEED", "7")))
    wanted = int(os.environ.get("S3GC_SOAK_KILLS", "30")) // 2
    while story.kills < wanted:
        await story.mutate()
        for _ in range(3):  # several kills in a row: recovery is killed, too
            if await story.cycle(story.random.uniform(1.0, 4.0)) is not None:
                break
        else:
            await story.cycle(None)
        await story.nothing_is_lost()
    await story.cycle(None)
    await story.nothing_is_lost()

    config = world.config()
    state = await initialize_gc_state(config)
    try:
        async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
            for record in await state["vault"].operations():
                if record.journal != "none":
                    result = await restore_operation(config, state, vault_db, record.id, dry_run=False)
                    assert result.failed_count == 0, result.failed_keys
    finally:
        await shutdown_gc_state(state)
    assert await asyncio.to_thread(world.present) == world.bodies


class Writers:
    """Six connections that insert, update, delete, roll back and commit late, each only what it saw to exist."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.random, self.stop = world, random.Random(seed), asyncio.Event()
        self.commits = 0

    async def exists(self, key: str) -> bool:
        def head() -> bool:
            listed = self.world.client.list_objects_v2(Bucket=self.world.bucket, Prefix=key)
            return listed.get("KeyCount", 0) > 0

        return await asyncio.to_thread(head)

    async def write(self) -> None:
        rnd = self.random
        connection = await asyncpg.connect(self.world.dsn)
        keys = sorted(self.world.bodies)
        while not self.stop.is_set():
            transaction = connection.transaction()
            await transaction.start()
            key = rnd.choice(keys)
            # The application's own rule: the row is written first (its lock is held), then the object is looked at.
            row = await connection.fetchval("insert into files(key) values ($1) returning id", key)
            if rnd.random() < 0.3:
                await connection.execute(
                    "update files set key = $1 where id = $2", key := rnd.choice(keys), row
                )
            if rnd.random() < 0.3:
                await connection.execute("delete from files where id = (select min(id) from files)")
            keep = rnd.random() < 0.7 and await self.exists(key)
            await asyncio.sleep(rnd.uniform(0, 0.3))
            await (transaction.commit() if keep else transaction.rollback())
            self.commits += keep
        await connection.close()


@pytest.mark.timeout(900)
async def test_live_writers_beside_repeated_executes_lose_nothing(
    minio: S3Server, postgres: Postgres, credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    credentials(minio)
    late = 0
    for seed in range(int(os.environ.get("S3GC_SOAK_SEEDS", "5"))):
        world = await World(minio, await postgres.fresh_database(), tmp_path / f"vault-{seed}").begin()
        await world.upload({f"w/{seed}/{i:04d}.bin": b"%d" % i for i in range(150)})
        await world.reference(sorted(world.bodies)[:30])
        writers = Writers(world, seed)
        tasks = [asyncio.create_task(writers.write()) for _ in range(6)]
        limits = {"max_delete_percent": None, "max_reference_drop_percent": 100, "min_resolved_percent": 0}
        for _ in range(2):
            result = await world.run(world.config(limits=limits, group_objects=20, canary_objects=5))
            late += result.late_references
            assert not [error for error in result.errors if "could not" in error], result.errors
        writers.stop.set()
        await asyncio.gather(*tasks)
        await world.run(world.config(limits=limits))
        assert writers.commits > 10
        present = await asyncio.to_thread(world.present)
        missing = await world.referenced() - present.keys()
        assert not missing, f"seed {seed}: referenced and gone: {sorted(missing)[:5]}"


@pytest.mark.timeout(300)
async def test_without_the_check_at_the_end_live_writers_do_lose(
    minio: S3Server,
    postgres: Postgres,
    credentials: Callable[[S3Server], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutant: if this did not lose, the test above could not see a loss."""

    async def no_check(*_: object, **__: object) -> CheckResult:
        return CheckResult()

    monkeypatch.setattr("s3gc.cycle.story.check_operation", no_check)
    credentials(minio)
    world = await World(minio, await postgres.fresh_database(), tmp_path / "vault").begin()
    await world.upload({f"m/{i:04d}.bin": b"%d" % i for i in range(40)})
    await world.reference(sorted(world.bodies)[:20])
    key = sorted(world.bodies)[30]
    writer = await asyncpg.connect(world.dsn)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("insert into files(key) values ($1)", key)
    await world.run(progress=AtPhase("Checking", transaction.commit))
    await asyncio.sleep(0)
    await writer.close()
    assert await world.referenced() - (await asyncio.to_thread(world.present)).keys() == {key}
