"""What a sweep counted, and what it says of each object in the audit."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime

from s3gc.vault.records import FREED, AuditRecord, BackupEntry, PlannedObject

__all__ = ["GroupTally", "SweepResult"]


@dataclass(slots=True)
class SweepResult:
    verified: int = 0
    deleted: int = 0
    deleted_bytes: int = 0
    freed_bytes: int = 0  # of those: what no version is left of (behind a delete marker the bytes stay)
    backed_up: int = 0
    backed_up_bytes: int = 0
    vault_bytes: int = 0
    #: Deletions of which nobody knows what they left: `recover.uncover_newer_versions` must look.
    unproven: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    first_denied: str = ""  # what the store said
    stopped: str = ""  # why the sweep ended before the plan did; empty: it did not


@dataclass(frozen=True, slots=True)
class GroupTally:
    """One group's audit, and its share of the counts of the whole sweep."""

    operation_id: str
    result: SweepResult
    audit: list[AuditRecord] = field(default_factory=list)

    def keep(self, item: PlannedObject | BackupEntry, reason: str, detail: str = "") -> None:
        self.result.skipped[reason] += 1
        if reason == "denied":
            self.result.first_denied = self.result.first_denied or detail
        self.note(item, "kept", reason, detail)

    def deleted(self, entry: BackupEntry, marker_version_id: str | None, *, freed: bool) -> None:
        self.result.deleted += 1
        self.result.deleted_bytes += entry.size
        self.result.freed_bytes += entry.size if freed else 0
        self.note(
            entry, "deleted", "unreferenced", FREED if freed else "", marker_version_id=marker_version_id
        )

    def note(
        self,
        item: PlannedObject | BackupEntry,
        action: str,
        reason: str,
        detail: str = "",
        marker_version_id: str | None = None,
    ) -> None:
        self.audit.append(
            AuditRecord(
                at=datetime.now(UTC),
                operation_id=self.operation_id,
                key=item.key,
                action=action,
                reason=reason,
                detail=detail,
                etag=item.etag,
                size=item.size,
                version_id=item.version_id if isinstance(item, BackupEntry) else None,
                marker_version_id=marker_version_id,
            )
        )
