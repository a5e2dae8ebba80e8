"""What each column contributed: the way to see a wrong column, format or bucket before anything is deleted.

Values that a spelling resolved, and plain values (`tally`), are counted exactly, in DuckDB. The odd values that none
resolved go through the full rules (`rest`), up to `sample_values` of a column; more are judged by an even sample and
extrapolated, and the column says so (`approximate`). Nothing in coverage decides about an object; the guards read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from s3gc.config import RESERVED_PREFIX, S3GCConfig
from s3gc.plan.duck import Session, table_of
from s3gc.plan.groups import Group, OddValues
from s3gc.plan.rest import judge_rest
from s3gc.plan.tally import SAMPLES, Hosts, Tally, tally_of
from s3gc.references.reader import ReadColumn
from s3gc.results import ColumnCoverage

__all__ = ["Missing", "measure"]


@dataclass(frozen=True, slots=True)
class Missing:
    """Values whose object is missing, over all columns; `approximate` when a column's count is."""

    objects: int
    samples: tuple[str, ...]
    approximate: bool


def measure(
    session: Session,
    listed: str,
    columns: Sequence[ReadColumn],
    groups: Sequence[Group],
    odd: Sequence[OddValues],
    hits: Sequence[Path],
    work: Path,
    *,
    config: S3GCConfig,
    left_out: Sequence[str],
    kept: Mapping[int, Mapping[str, int]],
    sample_values: int,
) -> tuple[tuple[ColumnCoverage, ...], Missing]:
    """Return the coverage of every column, in order, and what is missing over all of them.

    `listed` is the relation of all objects (whatever their verdict: a young object exists), `hits` what
    stage A found (`prefixes.HITS_SCHEMA`), `kept` what each column's prefixes keep.
    """
    if not columns:
        return (), Missing(0, (), False)
    named = f"(SELECT col, row FROM {table_of(hits)} WHERE NOT derived AND col >= 0)"
    scope, reserved = config.effective_prefixes, (RESERVED_PREFIX, *left_out)
    group_of = {number: group for group in groups for number in group.numbers}
    tallies: list[Tally] = []
    hosts: list[Hosts] = []
    for number, values in enumerate(odd):
        group = group_of.get(number)
        tally, found = tally_of(
            session, columns, number, group, values, named, work, scope=scope, reserved=reserved
        )
        tallies.append(tally)
        hosts.append(found)
    open_values = [_unresolved(session, values, number, named) for number, values in enumerate(odd)]
    rests = judge_rest(
        session, listed, columns, odd, named, open_values, hosts, work,
        scope=scope, reserved=reserved, size=sample_values,
    )  # fmt: skip
    coverage = tuple(
        _column(
            column,
            tallies[number],
            open_values[number],
            rests[number],
            hosts[number],
            kept.get(number, {}),
        )
        for number, column in enumerate(columns)
    )
    samples = [text for column in coverage for text in column.missing_samples]
    return coverage, Missing(
        objects=sum(column.missing for column in coverage),
        samples=tuple(samples[: 4 * SAMPLES]),
        approximate=any(column.approximate for column in coverage),
    )


def _unresolved(session: Session, odd: OddValues, number: int, named: str) -> int:
    """How many odd values of a column name no object as far as stage A knows."""
    if not odd.count:
        return 0
    named_rows = f"(SELECT row FROM {named} WHERE col = {number})"
    (count,) = session.one(
        f"SELECT count(*) FROM {odd.relation} v "
        f"WHERE NOT is_extra AND NOT EXISTS (SELECT 1 FROM {named_rows} n WHERE n.row = v.row)"
    )
    return int(count)


def _column(
    column: ReadColumn,
    plain: Tally,
    unresolved: int,
    rest: Tally,
    hosts: Hosts,
    kept: Mapping[str, int],
) -> ColumnCoverage:
    """Put together what is exact, `plain`, and `rest`, which stands for so many `unresolved` odd values; all others
    are resolved."""
    resolved = column.values - plain.seen - unresolved
    factor = unresolved / rest.seen if rest.seen else 1.0

    def whole(kind: str) -> int:
        return plain.counts.get(kind, 0) + round(rest.counts.get(kind, 0) * factor)

    found = min(column.values, resolved + whole("resolved"))
    named = found + whole("missing") + whole("elsewhere") + whole("outside")
    return ColumnCoverage(
        source=column.spec.source,
        column=column.spec.label,
        format=column.spec.format.value,
        values=column.values,
        references=min(column.values, named),
        resolved=found,
        missing=whole("missing"),
        unparsed=whole("unparsed"),
        other_bucket=whole("other_bucket"),
        foreign=whole("foreign"),
        outside=whole("outside"),
        ignored=whole("ignored"),
        approximate=rest.seen < unresolved,
        undeclared_hosts={host: values for host, (values, _) in hosts.items()},
        unparsed_samples=list(rest.unparsed_samples),
        missing_samples=[*plain.missing_samples, *rest.missing_samples][:SAMPLES],
        prefix_kept=dict(kept),
    )
