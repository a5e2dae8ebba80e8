"""A purge that is killed at each of its points: nothing is lost, every version is counted exactly once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.killed import POINTS
from tests.library.sweep.support import audit, kinds, restore, versions
from tests.testbed.services import S3Server

from s3gc import get_metrics, initialize_gc_state, shutdown_gc_state
from s3gc.results import Outcome
from s3gc.store.bucket import Bucket
from s3gc.vault.purges import PurgeJournal

ROOT = Path(__file__).parents[3]


def settings(world: World) -> dict[str, Any]:
    return {
        "bucket": world.bucket,
        "endpoint_url": world.server.endpoint,
        "path_style": True,
        "tables": {"files": ["key"]},
        "database_url": world.dsn,
        "mode": "execute",
        "retention_days": 0,
        "restore_hold_days": 0,
        "versions": "purge",
        "limits": {"max_delete_percent": None},
        "vault_path": str(world.vault),
    }


async def killed_at(world: World, point: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.library.sweep.killed",
        json.dumps(settings(world)),
        point,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await process.communicate()
    assert process.returncode == -signal.SIGKILL, f"{point!r} was not reached: {err.decode()[-2000:]}"


@pytest.mark.timeout(300)
async def test_killed_at_every_point_each_version_is_purged_and_counted_once(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await new_world(s3)
    # Four a kill, and some that are left for the end.
    bodies = {f"p/{number:03d}.bin": b"%d" % number * (number + 1) for number in range(4 * len(POINTS) + 5)}
    await world.upload({**bodies, "kept.bin": b"kept"}, Metadata={"owner": "shop"})
    await world.reference(["kept.bin"])
    first = await world.run(world.config(**settings(world)))
    assert first.deleted_count == len(bodies)
    for point in POINTS:
        await killed_at(world, point)
    last = await world.run(world.config(**settings(world)))
    assert last.outcome is Outcome.SUCCEEDED, last.errors
    assert last.purge_kept == {}
    assert {key: kinds(world, key) for key in bodies} == {key: [] for key in bodies}

    state = await initialize_gc_state(world.config(**settings(world)))
    try:
        results = [
            (record, await state["vault"].operation(record.id).result())
            for record in await state["vault"].operations()
        ]
        assert all(record.extra.get("purge") in (None, "closed") for record, _ in results)
        counted = [result for _, result in results if result is not None]
        assert sum(result.purged_count for result in counted) == len(bodies)
        assert sum(result.reclaimed_bytes for result in counted) == sum(map(len, bodies.values()))
        metrics = await get_metrics(state["config"], state)
        assert metrics.reclaimed_bytes == sum(map(len, bodies.values()))
    finally:
        await shutdown_gc_state(state)
    purged = Counter(r.key for r in await audit(world, first.operation_id) if r.action == "purged")
    assert purged == Counter(dict.fromkeys(bodies, 1))

    back = await restore(world, first.operation_id)
    assert (back.restored_count, back.failed_count) == (len(bodies), 0), back.failed_keys
    assert world.present() == {**bodies, "kept.bin": b"kept"}
    assert world.client.head_object(Bucket=world.bucket, Key="p/003.bin")["Metadata"] == {"owner": "shop"}


@pytest.mark.parametrize("older", [False, True])
async def test_killed_while_a_person_uncovered_the_object_the_next_cycle_brings_it_back(
    minio: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch, older: bool
) -> None:
    """The kill is played by an exception that nothing catches; the batch stays open exactly as after a SIGKILL."""
    world = await new_world(minio)
    if older:
        await world.upload({"a.bin": b"older"})
    await world.upload({"a.bin": b"the one", "kept.bin": b"kept"})
    await world.reference(["kept.bin"])
    config = world.config(**settings(world))
    assert (await world.run(config)).deleted_count == 1
    found = versions(world, "a.bin")
    real = Bucket.delete

    class Killed(BaseException):
        pass

    async def uncovered_and_killed(self: Bucket, key: str, **how: Any) -> Any:
        if how.get("version_id") != found[1][1]:
            return await real(self, key, **how)
        world.client.delete_object(Bucket=world.bucket, Key=key, VersionId=found[0][1])
        await real(self, key, **how)
        raise Killed

    monkeypatch.setattr(Bucket, "delete", uncovered_and_killed)
    with pytest.raises(Killed):
        await world.run(config)
    monkeypatch.setattr(Bucket, "delete", real)
    assert world.present().get("a.bin") == (b"older" if older else None)
    await world.reference(["a.bin"])  # or this very cycle would sweep it again
    result = await world.run(config)
    assert (result.purged_count, result.reclaimed_bytes) == (0, 0)
    assert world.present()["a.bin"] == b"the one"


async def test_a_damaged_journal_of_purges_stops_purges_and_nothing_else(
    minio: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await new_world(minio)
    await world.upload({"a.bin": b"a", "b.bin": b"b", "kept.bin": b"kept"})
    await world.reference(["kept.bin"])
    config = world.config(**settings(world))
    assert (await world.run(config)).deleted_count == 2
    real = PurgeJournal.end

    async def never(*_: object) -> None:
        raise OSError("the vault's disk is gone")

    monkeypatch.setattr(PurgeJournal, "end", never)
    cut_off = await world.run(config)
    assert cut_off.outcome is Outcome.PARTIALLY_FAILED
    assert cut_off.purged_count == 0
    monkeypatch.setattr(PurgeJournal, "end", real)
    path = world.vault / "operations" / cut_off.operation_id / "purge" / "000001.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-30])
    await world.upload({"c.bin": b"c"})
    result = await world.run(config)
    assert (result.outcome, result.deleted_count, result.purged_count) == (Outcome.PARTIALLY_FAILED, 1, 0)
    assert "stays open" in result.errors[0]
    assert "cut off" in result.errors[0]
    path.write_bytes(whole)
    result = await world.run(config)
    assert (result.outcome, result.purged_count) == (Outcome.SUCCEEDED, 1), result.errors
    state = await initialize_gc_state(config)
    corrected = await state["vault"].operation(cut_off.operation_id).result()
    await shutdown_gc_state(state)
    assert corrected is not None
    assert (corrected.purged_count, corrected.reclaimed_bytes) == (2, 2)
