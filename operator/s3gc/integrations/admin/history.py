"""The policy's operations as the endpoints show them: the history, one in full, and the plan that waits for a person.

Only operations of this policy's scope: a vault may keep several policies, and a token of one application is not one of
another's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from s3gc.config import GCMode
from s3gc.exceptions import RefusedError, VaultError
from s3gc.integrations.admin import problems
from s3gc.integrations.admin.models import (
    GCApproved,
    GCApproveRequest,
    GCOperationDetail,
    GCOperationList,
    GCOperationState,
    GCOperationSummary,
    GCPendingApproval,
)
from s3gc.integrations.admin.runtime import Runtime
from s3gc.plan.approving import approvable_plan, not_waived
from s3gc.results import GCResult, Outcome
from s3gc.vault.operations import Operation, OperationRecord

__all__ = ["approve", "find", "last_cycle", "list_operations", "pending_approval", "show"]

_COUNTS = (
    "duration_seconds", "total_scanned", "candidates_found", "planned_objects", "verified_orphans", "deleted_count",
    "backed_up_count", "skipped_count", "healed_count", "late_references", "missing_objects", "reclaimable_bytes",
    "reclaimed_bytes", "backed_up_bytes", "plan_digest",
)  # fmt: skip
#: Operations that are looked at for the last cycle, or for a plan that waits; older ones are history.
_RECENT = 20
_READS_IN_FLIGHT = 8


async def find(runtime: Runtime, operation_id: str) -> tuple[Operation, OperationRecord]:
    """The operation and its record. Raises ProblemError (404) for one that this policy does not have."""
    state = await runtime.state()
    vault, scope = state["vault"], state["scope"]
    operation = vault.operation(operation_id)
    try:
        record = await operation.record()
    except FileNotFoundError:
        raise problems.not_found(operation_id, vault.location) from None
    if record.scope != scope.id:
        raise problems.not_found(operation_id, vault.location)
    return operation, record


async def list_operations(
    runtime: Runtime, *, limit: int, before: str | None, running_id: str | None
) -> GCOperationList:
    items: list[GCOperationSummary] = []
    async for record, result in _newest(runtime, before=before):
        if len(items) == limit:
            return GCOperationList(items=items, next_before=items[-1].operation_id)
        items.append(_summary(record, result, running_id))
    return GCOperationList(items=items, next_before=None)


async def last_cycle(runtime: Runtime, running_id: str | None) -> GCOperationSummary | None:
    """The newest operation that has ended, in whatever way."""
    async for record, result in _newest(runtime, most=_RECENT):
        if record.id != running_id:
            return _summary(record, result, running_id)
    return None


async def pending_approval(runtime: Runtime) -> GCPendingApproval | None:
    """The plan that a person is waited for, in a policy that would sweep it: of the newest cycle that judged one."""
    if runtime.config.mode is not GCMode.EXECUTE:
        return None
    state = await runtime.state()
    oldest = datetime.now(UTC) - timedelta(hours=runtime.config.limits.max_plan_age_hours)
    async for record, result in _newest(runtime, most=_RECENT):
        if record.started_at < oldest:
            return None
        if result is None or result.mode != "execute" or result.outcome is Outcome.FAILED:
            continue
        tripped = [guard for guard in result.guards if guard.tripped and not guard.waived]
        waits = result.outcome is Outcome.AWAITING_APPROVAL or result.outcome is Outcome.REFUSED
        if not waits or not all(guard.waivable for guard in tripped):
            return None  # what came later counts: it swept, or needs something else than consent
        operation = state["vault"].operation(record.id)
        if _why_not(result, record) is not None or await operation.approval() is not None:
            return None
        return GCPendingApproval(
            operation_id=record.id,
            plan_digest=result.plan_digest or "",
            objects=result.planned_objects,
            bytes=result.reclaimable_bytes,
            expires_at=result.approval_expires_at,
            guards=tripped,
        )
    return None


async def show(runtime: Runtime, operation_id: str, running_id: str | None) -> GCOperationDetail:
    operation, record = await find(runtime, operation_id)
    result = await operation.result()
    approval = await operation.approval()
    groups = len(await operation.journal_groups())
    why_not = _why_not(result, record)
    if why_not is None and approval is not None:
        why_not = f"it was approved already, by {approval.by}"
    return GCOperationDetail(
        operation=_summary(record, result, running_id),
        result=result,
        groups=groups,
        packs=len(await operation.pack_numbers()),
        held=await operation.is_held(),
        approved_by=approval.by if approval is not None else None,
        approved_at=approval.at if approval is not None else None,
        approvable=why_not is None,
        why_not_approvable=why_not,
        restorable=bool(groups),
    )


async def approve(runtime: Runtime, operation_id: str, wanted: GCApproveRequest, origin: str) -> GCApproved:
    """Consent to the plan with this digest. Raises ProblemError (404) and RefusedError (409)."""
    operation, record = await find(runtime, operation_id)
    result = approvable_plan(operation_id, await operation.result(), datetime.now(UTC))
    if (why_not := _why_not(result, record)) is not None:
        raise RefusedError(why_not, details={"guard": "approval", "plan_digest": result.plan_digest})
    if wanted.plan_digest != result.plan_digest:
        raise RefusedError(
            f"operation {operation_id} has another plan: its digest is {result.plan_digest}. Look at it, and approve "
            "exactly that",
            details={"guard": "approval", "plan_digest": result.plan_digest},
        )
    by = f"{wanted.by.strip() or 'somebody'}, {origin}"
    approval = await operation.approve(wanted.plan_digest, by)
    return GCApproved(
        operation_id=operation_id,
        plan_digest=approval.digest,
        objects=result.planned_objects,
        bytes=result.reclaimable_bytes,
        by=approval.by,
        at=approval.at,
        not_waived=not_waived(result),
    )


def _why_not(result: GCResult | None, record: OperationRecord) -> str | None:
    """Why the plan of an operation cannot be approved; None when it can."""
    try:
        plan = approvable_plan(record.id, result, datetime.now(UTC))
    except RefusedError as error:
        return error.message
    if not plan.planned_objects:
        return "its plan is empty"
    if record.journal != "none" or plan.outcome in (Outcome.PARTIALLY_FAILED, Outcome.FAILED):
        return "it went beyond its plan already; run a new cycle"
    if plan.mode == "execute" and plan.outcome is Outcome.SUCCEEDED:
        return "it was swept already"
    return None


def _summary(record: OperationRecord, result: GCResult | None, running_id: str | None) -> GCOperationSummary:
    if record.id == running_id:
        state = GCOperationState.RUNNING
    elif record.problem:
        state = GCOperationState.DAMAGED
    else:
        state = GCOperationState.CUT_OFF if record.outcome is None else GCOperationState.FINISHED
    known = {name: getattr(result, name) for name in _COUNTS} if result is not None else {}
    return GCOperationSummary(
        operation_id=record.id,
        state=state,
        bucket=record.bucket,
        mode=record.mode,
        outcome=Outcome(record.outcome) if record.outcome in set(Outcome) else None,
        started_at=record.started_at,
        completed_at=record.completed_at,
        journal=record.journal,
        problem=record.problem or None,
        errors=len(result.errors) if result is not None else None,
        **known,
    )


async def _newest(
    runtime: Runtime, *, before: str | None = None, most: int | None = None
) -> AsyncIterator[tuple[OperationRecord, GCResult | None]]:
    """Operations of this scope with their results, newest first, read some at a time; at most `most` are looked at."""
    state = await runtime.state()
    vault, scope = state["vault"], state["scope"]
    ids = [each for each in await runtime.operation_ids() if before is None or each < before][:most]

    async def read(operation_id: str) -> tuple[OperationRecord, GCResult | None] | None:
        operation = vault.operation(operation_id)
        try:
            record = await operation.record()
        except FileNotFoundError:
            return None  # expired a moment ago
        except VaultError as error:
            began = datetime.now(UTC)
            return OperationRecord(operation_id, "", "", "unknown", began, problem=error.message), None
        if record.scope != scope.id:
            return None
        try:
            return record, await operation.result()
        except VaultError:
            return record, None  # a damaged result must not hide the others

    for start in range(0, len(ids), _READS_IN_FLIGHT):
        for found in await asyncio.gather(*map(read, ids[start : start + _READS_IN_FLIGHT])):
            if found is not None:
                yield found
