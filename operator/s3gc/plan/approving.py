"""Whether a person may approve what an operation planned: it must have a plan, and one of today.

An approval counts for exactly one digest, and everything is read anew before anything of the plan goes; so what is
judged here is only what a person must not be asked.
"""

from __future__ import annotations

from datetime import datetime

from s3gc.exceptions import RefusedError
from s3gc.results import GCResult

__all__ = ["approvable_plan", "not_waived"]


def approvable_plan(operation_id: str, result: GCResult | None, now: datetime) -> GCResult:
    """Return the result whose plan may be approved. Raises RefusedError (guard "approval" or "maxPlanAgeHours")."""
    if result is None or not result.plan_digest:
        why = "it was cut off before there was one" if result is None else f"it ended as {result.outcome}"
        raise RefusedError(
            f"operation {operation_id} has no plan to approve: {why}", details={"guard": "approval"}
        )
    if result.approval_expires_at is not None and result.approval_expires_at < now:
        raise RefusedError(
            f"the plan of {operation_id} is too old since {result.approval_expires_at:%Y-%m-%d %H:%M} UTC: "
            "what it says about the databases is yesterday's. Run a new cycle and approve its plan",
            details={"guard": "maxPlanAgeHours", "plan_digest": result.plan_digest},
        )
    return result


def not_waived(result: GCResult) -> list[str]:
    """Guards that tripped and that no approval waives; the next cycle judges them anew."""
    return sorted({guard.guard for guard in result.guards if guard.tripped and not guard.waivable})
