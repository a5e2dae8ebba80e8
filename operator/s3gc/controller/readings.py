"""What a Job said: its termination message, its log, the way its last pod ended; and what that makes of a cycle.

The termination message is JSON of at most 4 KiB, in which the engine says how it ended; the log's last line is the
whole result. Both were written by a process that read other people's data, so everything is taken with care:
unknown fields are left out, numbers are numbers, texts are cut. Where there is no word from the engine, the
outcome is never a success: `Failed` where Kubernetes says that the Job failed, else `Unknown`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from s3gc.controller.observe import JobState, JobView, PodView, last_pod
from s3gc.controller.resources import moment
from s3gc.controller.statuses import (
    MAX_COVERAGE,
    MAX_ERRORS,
    MAX_SOURCES,
    Coverage,
    Cycle,
    PendingApproval,
    ProgressCounts,
    SourceLevel,
    VaultMetrics,
    cut,
)
from s3gc.exceptions import redact
from s3gc.results import Outcome

__all__ = [
    "CycleReading",
    "LogReading",
    "RestoreReading",
    "gone_cycle",
    "pod_trouble",
    "read_cycle",
    "read_log",
    "read_restore",
]

_MODES = {"dry_run": "DryRun", "audit_only": "AuditOnly", "execute": "Execute"}
_MAX_COUNT = 2**53 - 1
_PHASES = frozenset(
    {
        "Preflight",
        "Recovering",
        "Listing",
        "Reading",
        "Joining",
        "Healing",
        "Planning",
        "BackingUp",
        "Verifying",
        "Deleting",
        "Checking",
        "Purging",
        "Finishing",
        "Restoring",
    }
)


@dataclass(frozen=True, slots=True)
class LogReading:
    """The last lines of a log that mean something: how far it is, and the whole result where it has ended."""

    phase: str | None = None
    operation_id: str | None = None
    progress: ProgressCounts | None = None
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CycleReading:
    """A cycle that ended, and what follows from it: a plan that waits, numbers of the vault."""

    cycle: Cycle
    pending: PendingApproval | None = None
    metrics: VaultMetrics | None = None


@dataclass(frozen=True, slots=True)
class RestoreReading:
    """A restore that ended."""

    succeeded: bool
    reason: str
    message: str
    operation_id: str | None = None
    restored_count: int = 0
    skipped_count: int = 0
    failed_count: int = 0
    restored_bytes: int = 0
    errors: tuple[str, ...] = ()


def read_log(text: str) -> LogReading:
    """Read the end of a log. A line that is no JSON, or cut off, is passed over."""
    phase: str | None = None
    operation: str | None = None
    progress: ProgressCounts | None = None
    result: Mapping[str, Any] = {}
    for line in text.splitlines():
        value = _json(line)
        if not value:
            continue
        if value.get("event") == "progress":
            phase = _phase(value.get("phase")) or phase
            operation = _text(value.get("operationID"), 64) or operation
            progress = ProgressCounts(
                listed=_count(value.get("listed")),
                references=_count(value.get("references")),
                candidates=_count(value.get("candidates")),
                backed_up=_count(value.get("backedUp")),
                deleted=_count(value.get("deleted")),
            )
        elif "operation_id" in value and "event" not in value:
            result = value
    return LogReading(phase, operation, progress, result)


def read_cycle(job: JobView, pods: Sequence[PodView], log: str = "") -> CycleReading:
    """What a finished Job's cycle was. `log` is the end of its last pod's log, where it could be read."""
    pod = last_pod(pods)
    short = _json(pod.ended_message) if pod is not None else {}
    outcome = _outcome(short.get("outcome"))
    if outcome is None:
        return CycleReading(_without_result(job, pod))
    whole = read_log(log).result
    if whole.get("operation_id") != short.get("operation_id"):
        whole = {}
    if job.state is not JobState.COMPLETE and outcome in (Outcome.SUCCEEDED, Outcome.AWAITING_APPROVAL):
        # It said so and then something ended it otherwise than by its own exit. The vault has the result.
        outcome = Outcome.UNKNOWN
    errors = _texts(whole.get("errors")) or _texts(short.get("errors"))
    cycle = Cycle(
        operation_id=_text(short.get("operation_id"), 64),
        job_name=job.name,
        job_uid=job.uid,
        mode=_MODES.get(str(short.get("mode"))),
        outcome=outcome,
        start_time=moment(short.get("started_at")) or job.created,
        completion_time=moment(short.get("completed_at")) or job.finished_at,
        duration_seconds=round(_amount(short.get("duration_seconds")), 3),
        **{name: _count(short.get(name)) for name in _COUNTS},
        verification=_text(short.get("verification"), 32),
        sources=_sources(whole.get("sources") or short.get("sources")),
        deletion=_text(short.get("deletion"), 500),
        plan_digest=_text(short.get("plan_digest"), 128),
        guards=tuple(_guard(each) for each in _tripped(short)[:MAX_ERRORS]),
        errors=errors[:MAX_ERRORS],
        coverage=_coverage(whole.get("coverage")),
        report=_text(whole.get("report") or short.get("report"), 1024),
    )
    return CycleReading(cycle, _pending(cycle, short), _metrics(short.get("metrics")))


_COUNTS = (
    "total_scanned",
    "candidates_found",
    "verified_orphans",
    "deleted_count",
    "backed_up_count",
    "skipped_count",
    "waiting_count",
    "missing_objects",
    "late_references",
    "healed_count",
    "reclaimable_bytes",
    "reclaimed_bytes",
)


def gone_cycle(job_name: str, job_uid: str, started: datetime | None, now: datetime) -> Cycle:
    """A Job that ran and is not there any more: somebody deleted it, and its result with it."""
    return Cycle(
        job_name=job_name,
        job_uid=job_uid,
        outcome=Outcome.UNKNOWN,
        start_time=started,
        completion_time=now,
        errors=(
            f"Job {job_name} is gone and left no result. What it deleted is in the vault's journal; the next "
            "cycle in mode Execute checks and closes it",
        ),
    )


def read_restore(job: JobView, pods: Sequence[PodView]) -> RestoreReading:
    """What a finished Job's restore was."""
    pod = last_pod(pods)
    short = _json(pod.ended_message) if pod is not None else {}
    if "restored_count" not in short:
        said = _texts(short.get("errors"))
        why = _why(job, pod)
        if job.state is JobState.COMPLETE:
            why = f"Job {job.name} ended and left no result"
        return RestoreReading(
            succeeded=False,
            reason="ResultUnknown" if job.state is JobState.COMPLETE else _reason(short),
            message=said[0] if said else why,
            operation_id=_text(short.get("operation_id"), 64),
            errors=said or (why,),
        )
    restored, skipped, failed = (
        _count(short.get(f"{word}_count")) for word in ("restored", "skipped", "failed")
    )
    errors = _texts(short.get("errors"))
    succeeded = job.state is JobState.COMPLETE and not failed
    dry = short.get("dry_run") is True
    numbers = f"{restored} {'would come back' if dry else 'brought back'}, {skipped} were there already"
    if failed:
        numbers += f", {failed} failed"
    return RestoreReading(
        succeeded=succeeded,
        reason=("DryRun" if dry else "Restored") if succeeded else "RestoreFailed",
        message=numbers if succeeded or not errors else f"{numbers}: {errors[0]}",
        operation_id=_text(short.get("operation_id"), 64),
        restored_count=restored,
        skipped_count=skipped,
        failed_count=failed,
        restored_bytes=_count(short.get("restored_bytes")),
        errors=errors[:MAX_ERRORS],
    )


def _reason(short: Mapping[str, Any]) -> str:
    """Why a restore did nothing: by the error's own reason, where it has one that is known."""
    return "NothingToRestore" if short.get("reason") == "NothingToRestore" else "RestoreFailed"


def pod_trouble(pods: Iterable[PodView]) -> str | None:
    """Why the newest pod does not run yet, for a person: no node, no image, no Secret. None when it does."""
    pod = last_pod(pods)
    if pod is None or pod.started_at is not None or pod.is_over:
        return None
    reason = pod.waiting_reason or pod.reason
    if not reason or reason in ("ContainerCreating", "PodInitializing"):
        return None
    return cut(redact(f"pod {pod.name}: {reason}: {pod.waiting_message or pod.message}".rstrip(": ")))


# --- without a result


def _without_result(job: JobView, pod: PodView | None) -> Cycle:
    said = _texts(_json(pod.ended_message).get("errors")) if pod is not None else ()
    failed = job.state is JobState.FAILED
    why = _why(job, pod) if failed else f"Job {job.name} ended and left no result"
    return Cycle(
        job_name=job.name,
        job_uid=job.uid,
        outcome=Outcome.FAILED if failed else Outcome.UNKNOWN,
        start_time=job.created,
        completion_time=job.finished_at,
        duration_seconds=_between(job.created, job.finished_at),
        errors=(*said, why)[:MAX_ERRORS],
    )


def _why(job: JobView, pod: PodView | None) -> str:
    """Why a Job failed, from Kubernetes' own words."""
    words = f"Job {job.name} failed: {job.reason or 'no reason given'}"
    if job.message:
        words += f" ({job.message})"
    if pod is None:
        return cut(words)
    words += f"; pod {pod.name}: {pod.ended_reason or pod.reason or pod.phase}"
    if pod.exit_code is not None:
        words += f", exit code {pod.exit_code}"
    last_line = pod.ended_message.strip().splitlines()[-1:] if not _json(pod.ended_message) else []
    if last_line and not last_line[0].startswith("{"):
        words += f"; its log ends with: {last_line[0][:300]}"
    return cut(redact(words))


def _between(start: datetime, end: datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if end is not None else 0.0


# --- parts of a result


def _pending(cycle: Cycle, short: Mapping[str, Any]) -> PendingApproval | None:
    """The plan that a person can approve: one that waits for it, or one that only waivable guards refused."""
    if cycle.plan_digest is None:
        return None
    tripped = _tripped(short)
    waivable = bool(tripped) and all(guard.get("waivable") for guard in tripped)
    if cycle.outcome is not Outcome.AWAITING_APPROVAL and not (cycle.outcome is Outcome.REFUSED and waivable):
        return None
    return PendingApproval(
        plan_digest=cycle.plan_digest,
        operation_id=cycle.operation_id,
        objects=_count(short.get("planned_objects")),
        bytes=cycle.reclaimable_bytes,
        expires_at=moment(short.get("approval_expires_at")),
    )


def _tripped(short: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    guards = short.get("guards")
    if not isinstance(guards, list):
        return []
    return [guard for guard in guards if isinstance(guard, dict) and not guard.get("waived")]


def _guard(guard: Mapping[str, Any]) -> str:
    name = _text(guard.get("guard"), 64) or "guard"
    subject = _text(guard.get("subject"), 300)
    text = f"{name} of {subject}" if subject else name
    if isinstance(value := guard.get("value"), (int, float)):
        text += f": {value:g}"
        if isinstance(limit := guard.get("limit"), (int, float)):
            text += f", limit {limit:g}"
    return cut(text)


def _sources(value: object) -> tuple[SourceLevel, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        SourceLevel(
            name=_text(each.get("name"), 253) or "",
            level=_text(each.get("level"), 32) or "",
            reason=_text(each.get("reason"), 500) or "",
            next_step=_text(each.get("next_step"), 500) or "",
            lag_bytes=None if each.get("lag_bytes") is None else _count(each.get("lag_bytes")),
        )
        for each in value[:MAX_SOURCES]
        if isinstance(each, dict)
    )


def _coverage(value: object) -> tuple[Coverage, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        Coverage(
            source=_text(each.get("source"), 253) or "",
            column=_text(each.get("column"), 600) or "",
            **{
                name: _count(each.get(name))
                for name in ("values", "references", "resolved", "missing", "unparsed")
            },
        )
        for each in value[:MAX_COVERAGE]
        if isinstance(each, dict)
    )


def _metrics(value: object) -> VaultMetrics | None:
    if not isinstance(value, dict):
        return None
    return VaultMetrics(
        last_run_at=moment(value.get("last_run_at")),
        avg_compression_ratio=round(_amount(value.get("avg_compression_ratio")), 3),
        **{
            name: _count(value.get(name))
            for name in (
                "total_runs",
                "total_deleted",
                "total_backed_up",
                "reclaimed_bytes",
                "vault_size_bytes",
            )
        },
    )


# --- values


def _json(text: str) -> Mapping[str, Any]:
    line = text.strip()
    if not line.startswith("{"):
        return {}
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _outcome(value: object) -> Outcome | None:
    try:
        return Outcome(str(value))
    except ValueError:
        return None


def _phase(value: object) -> str | None:
    return value if isinstance(value, str) and value in _PHASES else None


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= _MAX_COUNT:
        return 0
    return int(value)


def _amount(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and 0 <= value <= _MAX_COUNT else 0.0


def _text(value: object, length: int) -> str | None:
    return cut(redact(value), length) if isinstance(value, str) and value else None


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(text for each in value if (text := _text(each, 1024)) is not None)
