"""A plan page by page, and the report's charts as numbers.

A plan may have millions of rows: a page is found by its keys alone, which is one column, and only the rows that it
shows become objects.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from s3gc.exceptions import VaultCorruptedError
from s3gc.integrations.admin import problems
from s3gc.integrations.admin.history import find
from s3gc.integrations.admin.models import GCBin, GCPlannedItem, GCPlanPage, GCSampleObject, GCSummary
from s3gc.integrations.admin.outcomes import Outcomes
from s3gc.integrations.admin.runtime import Runtime
from s3gc.plan.planfile import PLAN_SCHEMA
from s3gc.report.summary import Bin, Sample, Summary
from s3gc.report.write import make_summary
from s3gc.vault.records import AuditRecord

__all__ = ["Summaries", "plan_page"]

_KEYS_AT_ONCE = 65_536
_SUMMARIES = 16


async def plan_page(
    runtime: Runtime,
    outcomes: Outcomes,
    operation_id: str,
    *,
    limit: int,
    after: str | None,
    prefix: str | None,
) -> GCPlanPage:
    """Raises ProblemError (404, 409) for an operation that is not there, or has no plan."""
    operation, record = await find(runtime, operation_id)
    try:
        path = await runtime.plan_file(operation)
    except FileNotFoundError:
        raise problems.refused(
            f"operation {operation_id} has no plan: it ended, or was cut off, before there was one",
            operation_id=operation_id,
        ) from None
    result = await operation.result()
    objects, size, rows, is_last = await asyncio.to_thread(_rows, path, limit, after, prefix)
    judged_at = record.extra.get("planned_at")
    now = datetime.fromisoformat(str(judged_at)) if judged_at else record.started_at
    audited: dict[str, AuditRecord] = {}
    if result is not None and result.mode != "dry_run":
        audited = await outcomes.of(operation, [str(row["key"]) for row in rows])
    return GCPlanPage(
        operation_id=operation_id,
        plan_digest=str(record.extra["plan_digest"]) if record.extra.get("plan_digest") else None,
        objects=objects,
        bytes=size,
        items=[_item(row, now, audited.get(str(row["key"]))) for row in rows],
        next_after=None if is_last else str(rows[-1]["key"]),
    )


def _rows(
    path: Path, limit: int, after: str | None, prefix: str | None
) -> tuple[int, int, list[dict[str, object]], bool]:
    """Objects and bytes of the plan, the rows of one page (keys are sorted by their bytes), whether it is the last."""
    try:
        with pq.ParquetFile(path) as file:
            sizes = [pc.sum(part.column("size")).as_py() or 0 for part in file.iter_batches(columns=["size"])]
            begin, end = _bounds(file, after, prefix)
            wanted = file.schema_arrow.names
            rows: list[dict[str, object]] = []
            start = 0
            for part in file.iter_batches(
                batch_size=_KEYS_AT_ONCE, columns=[n for n in PLAN_SCHEMA.names if n in wanted]
            ):
                low, high = max(begin, start), min(end, start + part.num_rows, begin + limit)
                if low < high:
                    rows += part.slice(low - start, high - low).to_pylist()
                start += part.num_rows
                if start >= min(end, begin + limit):
                    break
            return file.metadata.num_rows, sum(sizes), rows, begin + limit >= end
    except (pa.ArrowException, OSError) as error:
        raise VaultCorruptedError(f"the plan {path.stem} cannot be read: {error}") from None


def _bounds(file: pq.ParquetFile, after: str | None, prefix: str | None) -> tuple[int, int]:
    """Numbers of the first row after `after` with `prefix`, and of the first one beyond them."""
    first = last = 0
    for part in file.iter_batches(batch_size=_KEYS_AT_ONCE, columns=["key"]):
        keys = pc.cast(part.column("key"), pa.large_binary())
        before = pa.scalar(False)
        beyond = pa.scalar(False)
        if after is not None:
            before = pc.less_equal(keys, pa.scalar(after.encode(), pa.large_binary()))
        if prefix:
            start = pa.scalar(prefix.encode(), pa.large_binary())
            below = pc.less(keys, start)
            has = pc.starts_with(keys, prefix.encode())
            before = pc.or_(before, below) if after is not None else below
            beyond = pc.and_not(pc.invert(has), below)
        first += _count(before, part.num_rows)
        last += part.num_rows - _count(beyond, part.num_rows)
    return min(first, last), last


def _count(mask: pa.Scalar | pa.Array, rows: int) -> int:
    if isinstance(mask, pa.Scalar):
        return rows if mask.as_py() else 0
    return int(pc.sum(mask).as_py() or 0)


def _item(row: dict[str, object], now: datetime, done: AuditRecord | None) -> GCPlannedItem:
    modified, since = row["last_modified"], row["first_unreferenced"]
    days = (now - modified).total_seconds() / 86400 if isinstance(modified, datetime) else 0.0
    reason = f"no reference named it when the plan was made, and it was {days:.1f} days old"
    if isinstance(since, datetime) and since < now:
        reason += f"; unreferenced since {since:%Y-%m-%d %H:%M} UTC"
    why = None
    if done is not None:
        why = f"{done.reason}: {done.detail}" if done.reason and done.detail else done.reason or done.detail
    return GCPlannedItem.model_validate(
        {
            "key": row["key"],
            "size": row["size"],
            "etag": row["etag"],
            "last_modified": modified,
            "storage_class": row["storage_class"] or "STANDARD",
            "first_unreferenced": since,
            "reason": reason,
            "action": done.action if done is not None else None,
            "action_reason": why,
        }
    )


class Summaries:
    """Charts of operations, kept for the last few: each reads a whole plan."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._kept: OrderedDict[tuple[str, str], GCSummary] = OrderedDict()
        self._busy = asyncio.Lock()

    async def get(self, operation_id: str) -> GCSummary:
        operation, _ = await find(self._runtime, operation_id)
        result = await operation.result()
        if result is None:
            raise problems.refused(
                f"operation {operation_id} has no result (yet): there is nothing to chart",
                operation_id=operation_id,
            )
        name = (operation_id, str(result.completed_at))
        async with self._busy:  # one at a time: each may take the policy's memory limit
            if name not in self._kept:
                limit = self._runtime.config.memory_limit_mb
                made = await make_summary(operation, result, memory_limit_mb=limit)
                self._kept[name] = _plain(operation_id, made)
                while len(self._kept) > _SUMMARIES:
                    self._kept.popitem(last=False)
            return self._kept[name]


def _plain(operation_id: str, made: Summary) -> GCSummary:
    return GCSummary(
        operation_id=operation_id,
        source="manifest" if made.source == "manifest" else "plan" if made.source == "plan" else "",
        objects=made.objects,
        bytes=made.bytes,
        monthly=made.monthly,
        price_origin=made.price_origin,
        by_prefix=_bins(made.by_prefix),
        by_age=_bins(made.by_age),
        by_size=_bins(made.by_size),
        by_class=_bins(made.by_class),
        by_outcome=_bins(made.by_outcome),
        oldest=made.oldest,
        newest=made.newest,
        largest=_samples(made.largest),
        samples=_samples(made.samples),
    )


def _bins(bins: Sequence[Bin]) -> list[GCBin]:
    return [
        GCBin(label=each.label, objects=each.objects, bytes=each.bytes, monthly=each.monthly) for each in bins
    ]


def _samples(samples: Sequence[Sample]) -> list[GCSampleObject]:
    return [
        GCSampleObject(
            key=each.key,
            size=each.size,
            last_modified=each.last_modified,
            storage_class=each.storage_class,
            outcome=each.outcome,
        )
        for each in samples
    ]
