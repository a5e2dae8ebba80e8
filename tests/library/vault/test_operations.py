"""One operation's record in the vault: written once, read back exactly, and honest about every kind of
damage."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.library.vault.processes import made_entry, open_vault
from ulid import ULID

from s3gc.exceptions import RefusedError, VaultCorruptedError, VaultError
from s3gc.results import GCResult
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.packindex import PackRow, encode_tail
from s3gc.vault.records import AuditRecord, BackupEntry, PackPart
from s3gc.vault.vault import Vault

GROUPS, OBJECTS = 3, 4


@pytest.fixture
async def vault(tmp_path: Path) -> Vault:
    return await open_vault(str(tmp_path / "vault"))


async def begin(vault: Vault) -> Operation:
    operation = vault.operation(str(ULID()))
    await operation.create(OperationRecord(operation.id, "media", "bucket", "execute", datetime.now(UTC)))
    return operation


def audit(entry: BackupEntry, action: str = "deleted", **more: object) -> AuditRecord:
    record = AuditRecord(datetime.now(UTC), entry.operation_id, entry.key, action, "unreferenced")
    return dataclasses.replace(record, **more)  # type: ignore[arg-type]  # fields by name


@pytest.fixture
async def operation(vault: Vault) -> Operation:
    """Three journaled groups with audits and packs (whose frames are never looked at here), and a
    manifest."""
    made = await begin(vault)
    for group in range(1, GROUPS + 1):
        entries = [
            dataclasses.replace(made_entry(made.id, group, number), parts=(PackPart(group, number * 10, 10),))
            for number in range(OBJECTS)
        ]
        rows = [
            PackRow(e.key, 0, e.parts[0].offset, 10, e.size, hashlib.sha256(b"").hexdigest(), e)
            for e in entries
        ]
        await vault.storage.create(
            made.pack_path(group), b"x" * OBJECTS * 10 + encode_tail(rows, OBJECTS * 10)
        )
        await made.append_journal(group, entries)
        await made.append_audit(group, [audit(entry) for entry in entries])
    await made.write_manifest()
    return made


def damage(vault: Vault, path: str, *, cut: int | None = None) -> None:
    file = Path(vault.location) / path
    data = bytearray(file.read_bytes())
    if cut is not None:
        del data[cut:]
    else:
        data[len(data) // 2] ^= 0x40
    file.write_bytes(data)


async def keys_of(operation: Operation, problems: list[str] | None = None) -> set[str]:
    return {entry.key async for entry in operation.entries(problems=problems)}


ALL = {f"group {group}/object {number}" for group in range(1, GROUPS + 1) for number in range(OBJECTS)}


async def test_a_record_is_written_once_and_updated_field_by_field(vault: Vault) -> None:
    operation = await begin(vault)
    with pytest.raises(VaultError, match="exists already"):
        await operation.create(OperationRecord(operation.id, "other", "bucket", "execute", datetime.now(UTC)))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    await operation.update(journal="open")
    await operation.update(completed_at=at, outcome="Succeeded")
    record = await operation.record()
    assert (record.scope, record.journal, record.completed_at, record.outcome) == (
        "media",
        "open",
        at,
        "Succeeded",
    )


async def test_updates_at_the_same_time_lose_nothing(vault: Vault) -> None:
    operation = await begin(vault)
    await asyncio.gather(operation.update(journal="open"), operation.update(outcome="Failed"))
    record = await operation.record()
    assert (record.journal, record.outcome) == ("open", "Failed")


async def test_a_plan_is_kept_exactly_and_never_changes(vault: Vault, tmp_path: Path) -> None:
    operation = await begin(vault)
    assert not await operation.plan_exists()
    with pytest.raises(FileNotFoundError):
        await operation.fetch_plan(tmp_path / "none")
    (tmp_path / "plan").write_bytes(b"parquet" * 1000)
    await operation.write_plan(tmp_path / "plan")
    with pytest.raises(VaultError, match="never changes"):
        await operation.write_plan(tmp_path / "plan")
    await operation.fetch_plan(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == b"parquet" * 1000


async def test_an_approval_is_for_one_plan(vault: Vault) -> None:
    operation = await begin(vault)
    assert await operation.approval() is None
    await operation.approve("sha256:1", "on call")
    await operation.approve("sha256:1", "again")
    with pytest.raises(RefusedError):
        await operation.approve("sha256:2", "on call")
    approval = await operation.approval()
    assert approval is not None
    assert (approval.digest, approval.by) == ("sha256:1", "on call")


async def test_a_result_comes_back(vault: Vault) -> None:
    operation = await begin(vault)
    assert await operation.result() is None
    await operation.write_result(GCResult(operation_id=operation.id, deleted_count=3))
    result = await operation.result()
    assert result is not None
    assert result.deleted_count == 3


async def test_a_journal_is_never_replaced(vault: Vault) -> None:
    operation = await begin(vault)
    entry = made_entry(operation.id, 1, 1)
    await operation.append_journal(1, [entry])
    await operation.append_journal(1, [entry])  # a repeat after a lost answer
    with pytest.raises(VaultError, match="another process"):
        await operation.append_journal(1, [made_entry(operation.id, 1, 2)])
    assert await operation.read_journal(1) == [entry]
    assert await operation.next_group() == 2


async def test_a_journal_comes_back_exactly(vault: Vault) -> None:
    operation = await begin(vault)
    entry = dataclasses.replace(
        made_entry(operation.id, 1, 1), key="ä\n\"\\\u2028😀", version_id="v1", tags=(("a", "ö"), ("b", "")),
        acl="<x/>",
        headers={"x-amz-meta-a": "=?UTF-8?q?=C3=A4?=", "x-amz-meta-b": ""},
        parts=(PackPart(1, 2, 3), PackPart(2, 0, 2**40)), last_modified=datetime(2024, 1, 1, 0, 0, 0, 123456, UTC),
    )  # fmt: skip
    untagged = dataclasses.replace(entry, key="k", tags=None, acl=None, version_id=None)
    await operation.append_journal(1, [entry, untagged])
    assert await operation.read_journal(1) == [entry, untagged]
    await operation.write_manifest()
    assert [found async for found in operation.entries()] == [entry, untagged]


async def test_an_audit_is_appended_to_and_zstd_reads_it(vault: Vault) -> None:
    operation = await begin(vault)
    entry = made_entry(operation.id, 1, 1)
    await operation.append_audit(1, [audit(entry)])
    await operation.append_audit(1, [audit(entry, "restored", detail="ü")])
    await operation.append_audit(3, [audit(entry, "failed")])
    assert [record.action async for record in operation.read_audit()] == ["deleted", "restored", "failed"]
    file = Path(vault.location) / operation.path("audit/000001.jsonl.zst")
    lines = subprocess.run(
        ["zstd", "-d", "-c", str(file)], check=True, capture_output=True
    ).stdout.splitlines()
    assert len(lines) == 2
    assert await operation.next_group() == 4


async def test_the_manifest_has_a_row_for_each_object_and_what_became_of_it(
    vault: Vault, operation: Operation
) -> None:
    late = made_entry(operation.id, 2, 0)
    await operation.append_audit(4, [audit(late, "restored")])
    await operation.write_manifest()
    table = pq.read_table(Path(vault.location) / operation.path("manifest.parquet"))
    rows = {row["key"]: row for row in table.to_pylist()}
    assert set(rows) == ALL
    assert rows["group 1/object 1"]["outcome"] == "deleted"
    assert rows[late.key]["outcome"] == "restored"
    assert (rows["group 3/object 2"]["pack"], rows["group 3/object 2"]["offset"]) == (3, 20)
    wanted = {
        "key",
        "version_id",
        "etag",
        "size",
        "headers",
        "tags",
        "storage_class",
        "last_modified",
        "sha256",
        "pack",
    }
    assert wanted | {"offset", "length", "outcome", "acl", "parts"} <= set(table.column_names)


async def test_entries_are_the_same_from_the_manifest_the_journals_and_the_packs(
    vault: Vault, operation: Operation
) -> None:
    found = []
    for remove in ("nothing", "manifest.parquet", "journal"):
        if remove == "journal":
            for group in range(1, GROUPS + 1):
                await vault.storage.delete(operation.path(f"journal/{group:06d}.jsonl"))
        elif remove != "nothing":
            await vault.storage.delete(operation.path(remove))
        found.append(sorted([entry async for entry in operation.entries()], key=lambda entry: entry.key))
    assert found[0] == found[1] == found[2]
    assert {entry.key for entry in found[0]} == ALL


async def test_a_journal_written_after_the_manifest_is_not_forgotten(operation: Operation) -> None:
    await operation.append_journal(7, [made_entry(operation.id, 7, 0)])
    assert await keys_of(operation) == ALL | {"group 7/object 0"}


@pytest.mark.parametrize("cut", [None, 100, 0])
async def test_a_damaged_manifest_costs_nothing_and_is_said(
    vault: Vault, operation: Operation, cut: int | None
) -> None:
    damage(vault, operation.path("manifest.parquet"), cut=cut)
    problems: list[str] = []
    assert await keys_of(operation, problems) == ALL
    assert len(problems) == 1
    assert "manifest.parquet" in problems[0]


@pytest.mark.parametrize("cut", [None, 700, 10, 0])
async def test_a_damaged_journal_is_named_and_the_packs_serve(
    vault: Vault, operation: Operation, cut: int | None
) -> None:
    path = operation.path("journal/000002.jsonl")
    damage(vault, path, cut=cut)
    with pytest.raises(VaultCorruptedError, match="000002") as caught:
        await operation.read_journal(2)
    assert caught.value.details["path"] == path
    assert "can still be restored" in str(caught.value)
    await vault.storage.delete(operation.path("manifest.parquet"))
    problems: list[str] = []
    assert await keys_of(operation, problems) == ALL
    assert any("000002.jsonl" in problem for problem in problems)


async def test_a_lost_journal_in_between_is_made_up_for_by_the_packs(
    vault: Vault, operation: Operation
) -> None:
    await vault.storage.delete(operation.path("manifest.parquet"))
    await vault.storage.delete(operation.path("journal/000002.jsonl"))
    assert await keys_of(operation) == ALL


async def test_when_journal_and_pack_are_both_lost_the_rest_comes_and_the_loss_is_raised(
    vault: Vault, operation: Operation
) -> None:
    await vault.storage.delete(operation.path("manifest.parquet"))
    damage(vault, operation.path("journal/000002.jsonl"))
    damage(vault, operation.pack_path(2), cut=5)
    found: set[str] = set()

    async def collect() -> None:
        async for entry in operation.entries():
            found.add(entry.key)

    with pytest.raises(VaultCorruptedError, match=r"000002\.pack"):
        await collect()
    assert found == {key for key in ALL if not key.startswith("group 2")}
    await operation.write_manifest()  # must not claim to cover what it does not know
    with pytest.raises(VaultCorruptedError):
        await keys_of(operation)


@pytest.mark.parametrize("cut", [None, 20, 0])
async def test_a_damaged_audit_hides_no_entry(vault: Vault, operation: Operation, cut: int | None) -> None:
    await vault.storage.delete(operation.path("manifest.parquet"))
    damage(vault, operation.path("audit/000001.jsonl.zst"), cut=cut)
    problems: list[str] = []
    assert await keys_of(operation, problems) == ALL
    if cut != 0:  # an empty audit is an audit of nothing
        assert any("000001.jsonl.zst" in problem for problem in problems)
        with pytest.raises(VaultCorruptedError, match="audit"):
            assert [record async for record in operation.read_audit()]


async def test_a_damaged_record_hides_no_operation(vault: Vault, operation: Operation) -> None:
    other = await begin(vault)
    damage(vault, operation.path("operation.json"), cut=30)
    with pytest.raises(VaultCorruptedError, match=r"operation\.json"):
        await operation.record()
    known = {record.id: record for record in await vault.operations(scope_id="media")}
    assert set(known) == {operation.id, other.id}
    assert known[operation.id].problem
    assert known[operation.id].journal == "open", "in doubt it may not expire and must be looked at"
    assert await keys_of(operation) == ALL


async def test_operations_are_listed_newest_first_and_by_scope(vault: Vault) -> None:
    made = []
    for scope in ("a", "b", "a"):
        operation = vault.operation(str(ULID()))
        await operation.create(OperationRecord(operation.id, scope, "bucket", "dry_run", datetime.now(UTC)))
        made.append(operation.id)
        await asyncio.sleep(0.002)
    assert [record.id for record in await vault.operations()] == made[::-1]
    assert [record.id for record in await vault.operations(scope_id="a")] == [made[2], made[0]]


async def test_what_is_not_an_operations_id_never_becomes_a_path(vault: Vault) -> None:
    for wrong in ("", "../../x", "01HX", "0" * 25 + "/", "I" * 26):
        with pytest.raises(VaultError, match="not an operation id"):
            vault.operation(wrong)


async def test_a_group_that_deleted_nothing_is_not_taken_for_a_lost_journal(vault: Vault) -> None:
    """Everything of group 1 turned out to be referenced: backed up, audited as kept, never journaled."""
    operation = await begin(vault)
    kept = [dataclasses.replace(made_entry(operation.id, 1, 0), parts=(PackPart(1, 0, 10),))]
    rows = [PackRow(kept[0].key, 0, 0, 10, 0, "", kept[0])]
    await vault.storage.create(operation.pack_path(1), b"x" * 10 + encode_tail(rows, 10))
    await operation.append_audit(1, [audit(kept[0], "kept")])
    await operation.append_journal(2, [made_entry(operation.id, 2, 0)])
    assert await keys_of(operation) == {"group 2/object 0"}
