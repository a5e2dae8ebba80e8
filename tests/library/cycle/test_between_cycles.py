"""What changes between two cycles: backups that have had their time, clocks, policies, who shares a vault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.library.cycle.rows import SqliteRows
from tests.library.cycle.world import World
from tests.testbed.services import S3Server

from s3gc.exceptions import StoreError
from s3gc.results import Outcome
from s3gc.sweep import check

KEYS = [f"uploads/{number:03d}.bin" for number in range(12)]
BODIES = {key: key.encode() for key in KEYS}


@pytest.fixture
async def world(versitygw: S3Server, credentials: Callable[[S3Server], None], tmp_path: Path) -> World:
    """An unversioned bucket: what is deleted is in the vault and nowhere else."""
    credentials(versitygw)
    rows = await SqliteRows.fresh(tmp_path / "rows.sqlite")
    world = await World(versitygw, rows, tmp_path / "vault", versioning=False).begin()
    await world.upload(BODIES)
    return world


async def test_a_backup_whose_object_could_not_be_healed_does_not_expire(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.reference(KEYS[:8])
    first = await world.run(world.config(vault_retention_days=0))
    assert first.deleted_count == 4, first.errors
    await world.reference([KEYS[9]])

    async def refused(*_: Any, **__: Any) -> str:
        raise StoreError("the bucket is over its quota")

    with monkeypatch.context() as patch:
        patch.setattr(check, "bring_back", refused)
        second = await world.run(world.config(vault_retention_days=0))
    assert second.outcome is Outcome.PARTIALLY_FAILED
    third = await world.run(world.config(vault_retention_days=0))
    assert third.healed_count == 1, third.errors
    assert world.present()[KEYS[9]] == BODIES[KEYS[9]]
    await world.run(world.config(vault_retention_days=0))
    assert not (
        world.vault / "operations" / first.operation_id / "operation.json"
    ).exists()  # what it owed is settled
