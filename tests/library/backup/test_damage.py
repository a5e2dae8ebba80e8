"""The corruption matrix: each kind of damage is one clear error, verify names it, everything else still
comes back."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import aiosqlite
import pytest
from tests.library.backup.support import World

from s3gc.backup.restore import restore_operation
from s3gc.backup.retention import verify
from s3gc.exceptions import VaultError
from s3gc.results import RestoreResult
from s3gc.vault.operations import Operation
from s3gc.vault.vault import Vault

KEYS = [f"k{number}" for number in range(6)]


def body_of(key: str) -> bytes:
    return random.Random(key).randbytes(5000)


@pytest.fixture
async def swept(on_minio: World) -> tuple[World, Operation, Operation]:
    """Two operations of three objects each; the first is the one that gets damaged."""
    operations = []
    for half in (KEYS[:3], KEYS[3:]):
        for key in half:
            on_minio.put(key, body_of(key))
        operations.append((await on_minio.sweep())[0])
    return on_minio, operations[0], operations[1]


async def restore(world: World, operation: Operation) -> RestoreResult:
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        return await restore_operation(world.config, world.state, db, operation.id, dry_run=False)


def delete(path: str) -> Callable[[World], None]:
    return lambda world: (world.vault_folder / path).unlink()


def cut(path: str, length: int) -> Callable[[World], None]:
    return lambda world: world.damage(path, cut=length)


def flip(path: str, at: int = -1) -> Callable[[World], None]:
    return lambda world: world.damage(path, at=at)


#: damage -> how many of the three objects still come back, and what the errors or reasons name
MATRIX = {
    "a byte of an object flipped": (flip("packs/000001.pack", at=20), 2, "000001.pack"),
    "a byte of the pack's index flipped": (flip("packs/000001.pack", at=-200), 3, ""),
    "the pack's footer cut off": (cut("packs/000001.pack", -50), 3, ""),
    "the pack cut off in its first object": (cut("packs/000001.pack", 30), 0, "000001.pack"),
    "the pack empty": (cut("packs/000001.pack", 0), 0, "000001.pack"),
    "the pack missing": (delete("packs/000001.pack"), 0, "000001.pack"),
    "the manifest cut off": (cut("manifest.parquet", 500), 3, "manifest.parquet"),
    "the manifest missing": (delete("manifest.parquet"), 3, "manifest.parquet"),
    "a byte of the manifest flipped": (flip("manifest.parquet"), 3, "manifest.parquet"),
    "the journal cut off": (cut("journal/000001.jsonl", 100), 3, ""),
    "a byte of the journal flipped": (flip("journal/000001.jsonl"), 3, ""),
    "the journal missing": (delete("journal/000001.jsonl"), 3, ""),
    "the audit flipped": (flip("audit/000001.jsonl.zst"), 3, ""),
    "the record cut off": (cut("operation.json", 40), 3, "operation.json"),
    "the record missing": (delete("operation.json"), 3, "operation.json"),
}


@pytest.mark.parametrize("name", MATRIX)
async def test_one_damage_is_named_and_costs_only_what_was_in_it(
    swept: tuple[World, Operation, Operation], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, damaged, whole = swept
    apply, expected, named = MATRIX[name]
    # The matrix names files inside the operation.
    monkeypatch.setattr(
        World, "vault_folder", property(lambda self: Path(self.vault.location) / damaged.path().rstrip("/"))
    )
    apply(world)
    monkeypatch.undo()
    if not name.startswith(("the audit",)):
        report = await verify(world.vault)
        assert not report.is_whole, "verify must find it"
        assert {problem.operation_id for problem in report.problems} == {damaged.id}
        lost = {problem.key for problem in report.problems if problem.is_lost}
        assert len(lost - {""}) == 3 - expected
    result = await restore(world, damaged)
    assert result.restored_count == expected
    assert result.failed_count == 3 - expected
    said = " ".join([*result.errors, *result.warnings, *result.failed_keys.values()])
    assert named in said
    assert bool(result.errors or result.failed_count) is (expected < 3), (
        "damage that was made up for is a warning"
    )
    assert [key for key in KEYS[:3] if world.body(key) == body_of(key)] == sorted(result.restored_keys)
    assert all(world.body(key) in (None, body_of(key)) for key in KEYS[:3])
    untouched = await restore(world, whole)
    assert (untouched.restored_count, untouched.errors) == (3, [])


async def test_journals_and_manifest_both_lost_the_packs_alone_bring_everything_back(
    swept: tuple[World, Operation, Operation],
) -> None:
    world, operation, _ = swept
    for path in world.vault_folder.glob(f"operations/{operation.id}/**/*"):
        if path.is_file() and path.suffix != ".pack":
            path.unlink()
    result = await restore(world, operation)
    assert sorted(result.restored_keys) == KEYS[:3]
    assert all(world.body(key) == body_of(key) for key in KEYS[:3])


async def test_a_whole_vault_verifies_and_every_object_was_read(
    swept: tuple[World, Operation, Operation],
) -> None:
    world, first, _ = swept
    told: list[int] = []
    report = await verify(world.vault, progress=told.append)
    assert report.is_whole
    assert (report.operations, report.packs, report.objects) == (2, 2, 6)
    assert report.bytes == sum(len(body_of(key)) for key in KEYS)
    assert (await verify(world.vault, [first.id])).operations == 1


async def test_an_audit_that_is_damaged_is_found_by_verify(swept: tuple[World, Operation, Operation]) -> None:
    world, operation, _ = swept
    world.damage(operation.path("audit/000001.jsonl.zst"))
    report = await verify(world.vault)
    assert any("audit" in problem.path for problem in report.problems)
    assert not any(problem.is_lost for problem in report.problems)


async def test_a_dry_run_says_that_a_pack_is_missing(swept: tuple[World, Operation, Operation]) -> None:
    world, operation, _ = swept
    (world.vault_folder / operation.pack_path(1)).unlink()
    async with aiosqlite.connect(world.vault.catalog_path) as db:
        result = await restore_operation(world.config, world.state, db, operation.id)
    assert (result.restored_count, result.failed_count) == (0, 3)
    assert "missing" in result.failed_keys["k0"]


@pytest.mark.parametrize(
    ("number", "says"), [(errno.ENOSPC, "full"), (errno.EROFS, "read-only"), (errno.EIO, "disk")]
)
async def test_a_vault_that_cannot_be_written_ends_the_group_with_the_reason(
    swept: tuple[World, Operation, Operation], monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    world, operation, _ = swept
    world.put("new", os.urandom(1000))

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    begun = await world.begin()
    with monkeypatch.context() as patch:
        patch.setattr("s3gc.store.folder._write_all", fail)
        with pytest.raises(VaultError, match=says):
            await world.back_up(begun, await world.planned("new"))
    assert world.body("new") is not None
    assert await begun.pack_numbers() == []
    result = await restore(world, operation)  # what is there already still comes back
    assert result.restored_count == 3


async def test_a_folder_copied_elsewhere_is_the_same_vault(
    swept: tuple[World, Operation, Operation], tmp_path: Path
) -> None:
    import shutil

    world, operation, _ = swept
    shutil.copytree(world.vault.location, tmp_path / "copy")
    copy = await Vault.open(world.config.with_updates(vault_path=str(tmp_path / "copy")))
    world.vault = copy
    assert copy.id
    assert (await restore(world, operation)).restored_count == 3
