"""The result's numbers are what happened, in every mode and in every kind of bucket."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import asyncpg
import pytest
from tests.library.cycle.world import World
from tests.library.sweep.conftest import NewWorld
from tests.library.sweep.support import During
from tests.testbed.services import S3Server

from s3gc import get_metrics, initialize_gc_state, shutdown_gc_state
from s3gc.results import GCResult, Outcome
from s3gc.sweep import sweep as sweep_module

KEYS = [f"uploads/{number:03d}.bin" for number in range(12)]
BODIES = {key: key.encode() * (number + 1) for number, key in enumerate(KEYS)}
ORPHANS = KEYS[6:]
SIZE = sum(len(BODIES[key]) for key in ORPHANS)


async def _world(new_world: NewWorld, server: S3Server, *, versioning: bool) -> World:
    world = await new_world(server, versioning=versioning)
    await world.upload(BODIES)
    await world.reference(KEYS[:6])
    return world


def numbers(result: GCResult) -> dict[str, Any]:
    names = (
        "planned_objects",
        "verified_orphans",
        "backed_up_count",
        "deleted_count",
        "skipped_count",
        "reclaimable_bytes",
        "reclaimed_bytes",
    )
    return {name: getattr(result, name) for name in names}


@pytest.mark.parametrize("mode", ["dry_run", "audit_only"])
async def test_a_mode_that_deletes_nothing_reclaims_nothing(
    s3: S3Server, new_world: NewWorld, mode: str
) -> None:
    world = await _world(new_world, s3, versioning=True)
    assert numbers(await world.run(world.config(mode=mode))) == {
        "planned_objects": 6,
        "verified_orphans": 6,
        "backed_up_count": 0,
        "deleted_count": 0,
        "skipped_count": 0,
        "reclaimable_bytes": SIZE,
        "reclaimed_bytes": 0,
    }


async def test_what_is_referenced_when_it_is_asked_again_is_not_a_verified_orphan(
    s3: S3Server, new_world: NewWorld
) -> None:
    world = await _world(new_world, s3, versioning=True)

    def reference() -> None:
        """Committed before the cycle goes on: in a loop of its own, because this one is the cycle's."""
        thread = threading.Thread(target=lambda: asyncio.run(world.reference([ORPHANS[0]])))
        thread.start()
        thread.join()

    for mode in ("audit_only", "execute"):
        await world.execute("delete from files where key = $1", ORPHANS[0])
        config = world.config(mode=mode, limits={"max_delete_percent": None})
        result = await world.run(config, progress=During("Planning", reference))
        assert (result.planned_objects, result.reclaimable_bytes) == (6, SIZE)
        assert (result.verified_orphans, result.skipped) == (5, {"referenced": 1}), mode
        assert result.verified_orphans + result.skipped_count == result.planned_objects
        assert result.reclaimed_bytes == 0  # markers free nothing
    assert ORPHANS[0] in world.present()


@pytest.mark.parametrize("condition", ["required", "best_effort"])
async def test_in_an_unversioned_bucket_the_bytes_that_went_are_reclaimed(
    request: pytest.FixtureRequest, new_world: NewWorld, condition: str
) -> None:
    server = request.getfixturevalue("versitygw" if condition == "required" else "minio")
    world = await _world(new_world, server, versioning=False)
    result = await world.run(world.config(deletion={"condition": condition}))
    assert numbers(result) == {
        "planned_objects": 6,
        "verified_orphans": 6,
        "backed_up_count": 6,
        "deleted_count": 6,
        "skipped_count": 0,
        "reclaimable_bytes": SIZE,
        "reclaimed_bytes": SIZE,
    }


@pytest.mark.parametrize("versioning", [True, False])
async def test_what_came_back_in_the_same_cycle_is_not_reclaimed(
    versitygw: S3Server, new_world: NewWorld, versioning: bool
) -> None:
    world = await _world(new_world, versitygw, versioning=versioning)
    writer = await asyncpg.connect(world.dsn)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute("insert into files(key) values ($1)", ORPHANS[3])
    commits: list[asyncio.Future[None]] = []
    result = await world.run(
        progress=During("Checking", lambda: commits.append(asyncio.ensure_future(transaction.commit())))
    )
    await commits[0]
    await writer.close()
    assert (result.late_references, result.deleted_count) == (1, 6)
    assert result.reclaimed_bytes == (0 if versioning else SIZE - len(BODIES[ORPHANS[3]]))


async def test_a_run_that_left_no_result_is_counted_once_by_the_one_that_closes_it(
    versitygw: S3Server, new_world: NewWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await _world(new_world, versitygw, versioning=False)

    class Killed(BaseException):
        pass

    real = sweep_module.why_stop
    groups: list[None] = []

    async def killed_before_the_second_group(context: Any) -> str:
        groups.append(None)
        if len(groups) == 2:
            raise Killed
        return await real(context)

    monkeypatch.setattr(sweep_module, "why_stop", killed_before_the_second_group)
    config = world.config(canary_objects=4, group_objects=2)
    with pytest.raises(Killed):
        await world.run(config)
    monkeypatch.setattr(sweep_module, "why_stop", real)
    second = await world.run(config)
    assert (second.outcome, second.deleted_count) == (Outcome.SUCCEEDED, 2), second.errors
    state = await initialize_gc_state(config)
    metrics = await get_metrics(config, state)
    await shutdown_gc_state(state)
    assert (metrics.total_deleted, metrics.reclaimed_bytes) == (6, SIZE)
