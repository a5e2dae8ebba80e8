"""What became of a page's objects: the right records, and only the groups that hold the page are read."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.library.vault.processes import open_vault
from ulid import ULID

from s3gc.integrations.admin.outcomes import Outcomes
from s3gc.vault.operations import Operation, OperationRecord
from s3gc.vault.records import AuditRecord


def _audit(operation: Operation, key: str, action: str) -> AuditRecord:
    return AuditRecord(datetime.now(UTC), operation.id, key, action, "unreferenced")


async def test_a_page_reads_its_own_groups_and_the_last_record_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = await open_vault(str(tmp_path / "vault"))
    operation = vault.operation(str(ULID()))
    await operation.create(OperationRecord(operation.id, "media", "bucket", "execute", datetime.now(UTC)))
    for group in range(1, 21):
        keys = [f"{group:02}/{number:02}" for number in range(50)]
        await operation.append_audit(group, [_audit(operation, key, "deleted") for key in keys])
    outcomes, page = Outcomes(), [f"07/{number:02}" for number in range(40, 50)] + ["08/00", "08/00b"]

    found = await outcomes.of(operation, page)
    assert {key: record.action for key, record in found.items()} == dict.fromkeys(page[:-1], "deleted")

    await operation.append_audit(21, [_audit(operation, "07/44", "restored")])  # the check, at the end
    read: list[int] = []
    real = Operation.audit_of

    async def counted(self: Operation, group: int) -> list[AuditRecord]:
        read.append(group)
        return await real(self, group)

    monkeypatch.setattr(Operation, "audit_of", counted)
    found = await outcomes.of(operation, page)
    assert (found["07/44"].action, found["07/45"].action) == ("restored", "deleted")
    assert sorted(set(read)) == [7, 8, 21]
    assert await outcomes.of(operation, []) == {}
