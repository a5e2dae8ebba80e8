"""What each column looked like in the last cycle that was believed: the yardstick of two guards.

`baselines.json` in the vault holds, under `columns`, one entry a column: how many values it had and how
many percent of them named an object. Only a cycle whose trust guards passed, or whose plan was approved,
may move it, or a table that loses a tenth a day would never be noticed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from s3gc.results import ColumnCoverage

__all__ = ["Baseline", "column_name", "load_baselines", "resolved_percent", "update_baselines"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """One column as the last believed cycle saw it; `resolved_percent` is None when nothing could be said."""

    values: int
    resolved_percent: float | None


def column_name(coverage: ColumnCoverage) -> str:
    """Return what names a column in the baselines and in messages: ``source: schema.table.column``."""
    return f"{coverage.source}: {coverage.column}"


def resolved_percent(coverage: ColumnCoverage) -> float | None:
    """Return how many percent of the values that could be ours name an object; None when there are none.

    Not counted: values outside the scope, other buckets' and foreign hosts', `data:` and its like, and
    undeclared hosts without a single hit (`coverage` leaves those out of `missing`).
    """
    ours = coverage.resolved + coverage.missing
    return 100 * coverage.resolved / ours if ours else None


def load_baselines(stored: Mapping[str, object]) -> dict[str, Baseline]:
    """Read what `update_baselines` returned; entries that cannot be understood are left out."""
    columns = stored.get("columns")
    found: dict[str, Baseline] = {}
    if not isinstance(columns, Mapping):
        return found
    for name, entry in columns.items():
        if not isinstance(entry, Mapping):
            continue
        values, percent = entry.get("values"), entry.get("resolved_percent")
        if isinstance(values, int) and (percent is None or isinstance(percent, (int, float))):
            found[str(name)] = Baseline(values, None if percent is None else float(percent))
    return found


def update_baselines(coverage: Sequence[ColumnCoverage], *, operation_id: str) -> dict[str, object]:
    """Return the new content of `baselines.json` after a believed cycle; other columns are dropped."""
    return {
        "operation_id": operation_id,
        "columns": {
            column_name(column): {"values": column.values, "resolved_percent": resolved_percent(column)}
            for column in coverage
        },
    }
