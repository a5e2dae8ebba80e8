"""Whether a person may approve what an operation planned: it must have a plan, and one of today.

An approval counts for exactly one digest, and everything is read anew before anything of the plan goes; so what is
judged here is only what a person must not be asked.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime

from s3gc.config import S3GCConfig
from s3gc.exceptions import RefusedError
from s3gc.results import GCResult

__all__ = ["PLAN_DAMAGED", "READ_BY", "approvable_plan", "not_waived", "read_by"]

#: In `OperationRecord.extra`: what the plan was judged by, and that its stored file is not to be believed any more.
READ_BY, PLAN_DAMAGED = "read_by", "plan_damaged"


def read_by(config: S3GCConfig) -> str:
    """A digest of what a policy reads and how: databases, tables, queries, formats, addresses; never a credential.

    A plan is approved as judged by that. An approval waives the guards that would notice a table which is not read any
    more, so a policy that reads otherwise needs a plan of its own.
    """
    sources = [
        {
            **source.model_dump(mode="json", include={"name", "tables", "queries", "derivatives"}),
            "location": source.location,
        }
        for source in config.effective_sources
    ]
    rules = config.model_dump(
        mode="json", include={"bucket", "region", "endpoint_url", "base_urls", "foreign_hosts"}
    )
    return hashlib.sha256(json.dumps([sources, rules], sort_keys=True).encode()).hexdigest()


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
