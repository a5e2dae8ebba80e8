"""Kill -9 in the middle of packing, journaling and deleting; and memory that does not grow with the
object."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import aiosqlite
import pytest
from tests.library.backup.support import World, open_world
from tests.testbed.services import S3Server
from ulid import ULID

from s3gc.backup.restore import restore_operation
from s3gc.backup.retention import verify

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024


def program(world: World, what: str, *more: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
    command = [sys.executable, "-m", "tests.library.backup.programs", what, str(world.config.endpoint_url)]
    return subprocess.Popen(
        [*command, world.bucket.name, world.vault.location, *more],
        stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment,
    )  # fmt: skip


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_killed_at_random_instants_nothing_is_lost_and_the_next_process_goes_on(
    on_minio: World,
) -> None:
    """After each kill every object is either in the bucket, or in a journal whose bytes are proven."""
    world = on_minio
    chance = random.Random(7)
    bodies = {f"k{number:03}": chance.randbytes(chance.choice((0, 100, 30_000))) for number in range(150)}
    for key, body in bodies.items():
        world.put(key, body)
    operation = world.vault.operation(str(ULID()))
    kills = 0
    for attempt in range(30):
        process = program(world, "sweep", operation.id)
        assert await asyncio.to_thread(line_of, process) == "started"
        try:  # the last is let be: on a busy machine half a second may not be enough to do anything
            await asyncio.to_thread(process.wait, chance.uniform(0.02, 0.5) if attempt < 29 else 120)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
        journaled = (
            {entry.key async for entry in operation.entries()} if await operation.journal_groups() else set()
        )
        present = {item.key for item in await world.planned()}
        assert present | journaled >= set(bodies), "an object is neither in the bucket nor in a journal"
        if process.returncode == 0:
            break
    assert process.returncode == 0, "the work was never finished"
    assert kills >= 3
    assert await world.planned() == []
    assert (await verify(world.vault, [operation.id])).problems == []
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        result = await restore_operation(world.config, world.state, db, operation.id, dry_run=False)
    assert result.failed_count == 0
    assert {key: world.body(key) for key in bodies} == bodies


async def test_a_restore_killed_at_random_instants_is_finished_by_the_next(on_minio: World) -> None:
    world = on_minio
    bodies = {f"k{number:03}": os.urandom(number * 50) for number in range(120)}
    for key, body in bodies.items():
        world.put(key, body)
    operation, _ = await world.sweep()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _RESTORE, str(world.config.endpoint_url), world.bucket.name, world.vault.location,
        operation.id, env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}, cwd=ROOT,
    )  # fmt: skip
    while not await world.planned():
        await asyncio.sleep(0.005)
    process.kill()
    await process.wait()
    back = len(await world.planned())
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        result = await restore_operation(world.config, world.state, db, operation.id, dry_run=False)
    assert (result.restored_count + result.skipped_count, result.failed_count) == (len(bodies), 0)
    assert result.skipped_count >= back > 0
    assert {key: world.body(key) for key in bodies} == bodies


_RESTORE = """
import asyncio, sys
from s3gc.backup.restore import restore_operation
from s3gc.builder import create_config
from s3gc.store.bucket import Bucket
from s3gc.vault.vault import Vault

async def main(endpoint, name, vault_path, operation_id):
    config = create_config(bucket=name, endpoint_url=endpoint, vault_path=vault_path, concurrency=2)
    vault, bucket = await Vault.open(config), await Bucket.open(name, endpoint_url=endpoint)
    state = {"vault": vault, "bucket": bucket, "scope": await vault.scope(config)}
    await restore_operation(config, state, None, operation_id, dry_run=False)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kind", ["incompressible", "zeros", "many"])
async def test_memory_does_not_grow_with_what_is_backed_up(
    on_minio: World, tmp_path: Path, kind: str
) -> None:
    """One object of 200 MiB, or 300 of 1 MiB: backed up and restored with less than 150 MiB more than
    before."""
    world = on_minio
    if kind == "many":
        blob = os.urandom(MIB)
        for number in range(300):
            world.put(f"k{number}", number.to_bytes(4) + blob)
        count = 300
    else:
        source = tmp_path / "big"
        with source.open("wb") as file:
            for _ in range(200):
                file.write(os.urandom(MIB) if kind == "incompressible" else bytes(MIB))
        world.client.upload_file(str(source), world.bucket.name, "big")
        count = 1
    process = program(world, "memory")
    out, _ = await asyncio.to_thread(process.communicate)
    facts = json.loads(out.splitlines()[-1])
    assert (facts["restored"], facts["skipped"], facts["failed"]) == (count, {}, {})
    assert facts["backup"] < 150, facts
    assert facts["restore"] < 150, facts
    if kind != "many":
        world.client.download_file(world.bucket.name, "big", str(tmp_path / "back"))
        assert subprocess.run(["cmp", str(source), str(tmp_path / "back")], check=False).returncode == 0


async def test_a_vault_in_s3_serves_the_whole_way(
    s3: S3Server, make_bucket: Callable[..., str], credentials: Callable[[S3Server], None], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    credentials(s3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    vault = f"s3://{make_bucket(s3)}/some/vault"
    async with open_world(s3, make_bucket(s3, versioning=True), vault, pack_size_bytes=MIB) as world:
        bodies = {"small": b"x" * 10, "empty": b"", "large": os.urandom(3 * MIB + 1), "ünï cödé": b"y"}
        for key, body in bodies.items():
            world.put(key, body, Metadata={"a": "b"})
        operation, backup = await world.sweep()
        assert backup.skipped == {}
        assert (await verify(world.vault)).problems == []
        # A purge: from here on only the vault has the bytes.
        for item in world.client.list_object_versions(Bucket=world.bucket.name)["Versions"]:
            world.client.delete_object(Bucket=world.bucket.name, Key=item["Key"], VersionId=item["VersionId"])
        async with aiosqlite.connect(world.vault.catalog_path) as db:
            result = await restore_operation(world.config, world.state, db, operation.id, dry_run=False)
        assert (result.restored_count, result.failed_keys) == (4, {})
        assert {key: world.body(key) for key in bodies} == bodies
        assert world.head("large")["Metadata"] == {"a": "b"}
