"""What a cycle knows so far, and the result that is made of it whenever the cycle ends.

`cycle` tells the story and notes here what each step found; a cycle that ends early, refused or failed, has a result of
the same shape as one that went through. Nothing in here reads or writes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from s3gc.backup.settle import Tally
from s3gc.config import GCMode, S3GCConfig
from s3gc.cycle.start import OpenSource
from s3gc.inventory.listing import Inventory
from s3gc.plan.join import Joined
from s3gc.plan.planfile import PlanSummary
from s3gc.references.cdc.following import read_again
from s3gc.results import GCResult, GuardReport, Outcome, SourceVerification, VerificationLevel
from s3gc.sweep.check import CheckResult
from s3gc.sweep.purge_proof import PurgeResult
from s3gc.sweep.tally import SweepResult
from s3gc.sweep.verify import Verifier

__all__ = ["CycleFacts"]

#: Errors that a result carries; the log has all of them.
MAX_ERRORS = 100


@dataclass(slots=True)
class CycleFacts:
    """Filled step by step; what a step that never ran would have found is None or empty."""

    opened: Sequence[OpenSource] = ()
    inventory: Inventory | None = None
    joined: Joined | None = None
    plan: PlanSummary | None = None
    reports: list[GuardReport] = field(default_factory=list)
    swept: SweepResult = field(default_factory=SweepResult)
    checked: CheckResult = field(default_factory=CheckResult)
    healed: CheckResult = field(default_factory=CheckResult)
    recovered: CheckResult = field(default_factory=CheckResult)
    before: Tally = field(default_factory=Tally)  # what earlier runs of a resumed operation did
    purge: PurgeResult = field(default_factory=PurgeResult)
    purged: tuple[int, int] = (0, 0)  # versions and bytes, as the journal of this operation has them
    seconds: dict[str, float] = field(default_factory=dict)  # phase -> wall seconds
    errors: list[str] = field(default_factory=list)
    approval_expires_at: datetime | None = None

    def result(
        self,
        *,
        operation_id: str,
        scope_id: str,
        config: S3GCConfig,
        outcome: Outcome,
        errors: Sequence[str],
        started_at: datetime,
        completed_at: datetime,
        seconds: float,
        deletion: str,
        verifier: Verifier,
        requests: Mapping[str, int],
    ) -> GCResult:
        """Return the result as of now; `seconds` is the cycle's wall time, `requests` the bucket's, by action."""
        swept, checked, before = self.swept, self.checked, self.before
        planned = self.plan
        dry = config.mode is GCMode.DRY_RUN
        return GCResult(
            operation_id=operation_id,
            scope=scope_id,
            bucket=config.bucket,
            mode=config.mode.value,
            outcome=outcome,
            started_at=started_at,
            completed_at=completed_at,
            duration_seconds=round(seconds, 3),
            planned_objects=planned.objects if planned else 0,
            verified_orphans=(planned.objects if planned else 0) if dry else swept.verified,
            deleted_count=before.deleted + swept.deleted,
            backed_up_count=before.backed_up + swept.backed_up,
            skipped_count=sum(swept.skipped.values()),
            late_references=len(checked.late),
            late_reference_keys=sorted(checked.late)[:100],
            healed_count=len(self.healed.restored) + len(self.recovered.restored),
            reclaimable_bytes=planned.bytes if planned else 0,
            # A delete marker frees nothing; the bytes are still there as a noncurrent version. What came back in this
            # very cycle was not freed either.
            reclaimed_bytes=max(before.freed_bytes + swept.freed_bytes - checked.rewritten_bytes, 0)
            + self.purged[1],
            purged_count=self.purged[0],
            purged_bytes=self.purged[1],
            purge_kept=dict(self.purge.kept),
            backed_up_bytes=before.backed_up_bytes + swept.backed_up_bytes,
            vault_bytes_written=before.vault_bytes + swept.vault_bytes,
            verification=verifier.level,
            verification_reason=verifier.reason,
            sources=self._sources(verifier, is_begun=not dry),
            # An older journal that could not be closed leaves a deletion unchecked as well.
            verified=checked.verified and self.recovered.verified,
            deletion=deletion,
            plan_digest=planned.digest if planned else None,
            approval_expires_at=self.approval_expires_at,
            guards=self.reports,
            skipped=dict(swept.skipped),
            phase_seconds={phase: round(spent, 3) for phase, spent in self.seconds.items()},
            requests=dict(requests),
            errors=list(errors[:MAX_ERRORS]),
            **self._join_counts(),
        )

    def _sources(self, verifier: Verifier, *, is_begun: bool) -> list[SourceVerification]:
        """Each source's level; a dry run begins no change capture, so what it would show is told."""
        opened = {one.source.name: one for one in self.opened}
        found: list[SourceVerification] = []
        for one in verifier.sources:
            known = opened[one.name]
            changes: dict[str, Any] = {"next_step": known.next_step}
            if known.capture is not None and not is_begun:
                again = read_again(known.preflight.columns, known.capture)
                changes["level"] = VerificationLevel.RESCAN if again else VerificationLevel.CDC
                changes["reason"] = again or "every column can be followed in the database's own log"
            found.append(one.model_copy(update=changes))
        return found

    def _join_counts(self) -> dict[str, Any]:
        if self.joined is None:
            return {}
        counts = self.joined.counts
        return {
            "total_scanned": counts.scanned,
            "total_bytes": counts.bytes,
            "candidates_found": counts.candidates,
            "waiting_count": counts.waiting,
            "young_count": counts.young,
            "excluded_count": counts.excluded,
            "not_actionable_count": counts.not_actionable,
            "held_count": counts.held,
            "unverifiable_count": counts.unverifiable,
            "coverage": list(self.joined.coverage),
            "missing_objects": self.joined.missing.objects,
        }
