"""The conditions of both kinds: what they say, and that a time of transition moves only with the status.

kstatus, which Flux and others judge by, reads `Reconciling` and `Stalled` as being there only while they are True, and
`Ready=False` as "not yet", never as a failure. So a policy that cannot be used is `Stalled`, and a cycle that failed
leaves `Ready` True and says `LastCycleSucceeded=False`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from s3gc.controller.statuses import Condition, ConditionStatus, Cycle, PendingApproval, cut
from s3gc.results import Outcome

__all__ = ["Said", "Trouble", "by_type", "cycle_said", "merge"]


@dataclass(frozen=True, slots=True)
class Said:
    """What a condition should say now."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an object cannot be acted upon. `is_final` trouble waits for a person, other trouble passes or is retried."""

    reason: str
    message: str
    is_final: bool = True


def merge(
    before: Iterable[Condition], said: Iterable[Said], *, generation: int, now: datetime
) -> tuple[Condition, ...]:
    """The conditions to write: exactly those of `said`, in their order."""
    known = by_type(before)
    merged = []
    for each in said:
        old = known.get(each.type)
        since = (
            old.last_transition_time
            if old is not None and old.status == each.status
            else now.replace(microsecond=0)
        )
        merged.append(
            Condition(
                type=each.type,
                status=each.status,
                observed_generation=generation,
                last_transition_time=since,
                reason=each.reason,
                message=cut(each.message),
            )
        )
    return tuple(merged)


def by_type(conditions: Iterable[Condition]) -> dict[str, Condition]:
    return {condition.type: condition for condition in conditions}


def cycle_said(cycle: Cycle | None, pending: PendingApproval | None) -> Said:
    """`LastCycleSucceeded`. A result that was lost is unknown, never a success."""
    name = "LastCycleSucceeded"
    if cycle is None:
        return Said(name, "Unknown", "NoCycleYet", "no cycle has ended yet")
    if cycle.outcome is Outcome.UNKNOWN:
        return Said(name, "Unknown", "ResultLost", _first(cycle, "its result is not known"))
    approve = ""
    if pending is not None:
        until = f" until {pending.expires_at:%Y-%m-%d %H:%M} UTC" if pending.expires_at else ""
        approve = (
            f"; to approve exactly this plan of {pending.objects:,} objects{until}: "
            f"s3gc.dev/approve={pending.plan_digest}"
        )
    if cycle.outcome is Outcome.AWAITING_APPROVAL:
        return Said(name, "True", "AwaitingApproval", f"a plan waits for a person{approve}")
    if cycle.outcome is Outcome.SUCCEEDED:
        return Said(name, "True", "Succeeded", _numbers(cycle))
    if cycle.outcome is Outcome.REFUSED:
        # A guard that has no number says nothing by its name alone; then the error does.
        numbers = [guard for guard in cycle.guards if ": " in guard]
        why = "; ".join(numbers[:3]) or _first(cycle, "; ".join(cycle.guards[:3]) or "a guard said no")
        return Said(name, "False", "Refused", f"refused: {why}{approve}")
    if cycle.outcome is Outcome.PARTIALLY_FAILED:
        return Said(name, "False", "PartiallyFailed", f"{_numbers(cycle)}; {_first(cycle, 'a part failed')}")
    return Said(name, "False", "Failed", _first(cycle, "it failed before anything was deleted"))


def _first(cycle: Cycle, otherwise: str) -> str:
    return cycle.errors[0] if cycle.errors else otherwise


def _numbers(cycle: Cycle) -> str:
    if cycle.mode == "Execute":
        text = f"{cycle.deleted_count:,} deleted, {cycle.skipped_count:,} left alone"
        if cycle.late_references or cycle.healed_count:
            text += f", {cycle.late_references + cycle.healed_count:,} restored because they are referenced"
        return text
    text = f"{cycle.verified_orphans:,} of {cycle.total_scanned:,} objects would go"
    return f"{text}; {cycle.deletion}" if cycle.deletion else text
