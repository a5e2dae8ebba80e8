"""What the plain values of a column came to, counted exactly and in SQL: part of `coverage`, which see.

Of a plain value the keys are known (`plain.keys_of`), so it needs no rules to tell whether one that names no object
is missing, outside of the scope, on a foreign host or in another bucket.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from s3gc.config import ReferenceFormat
from s3gc.exceptions import redact
from s3gc.plan.duck import Session, quoted, table_of
from s3gc.plan.groups import Group, OddValues, values_of
from s3gc.plan.hoststyles import HOST, Means, host_of, with_styles
from s3gc.plan.plain import is_plain, keys_of
from s3gc.plan.scope import under_any
from s3gc.plan.spellings import hosts_in, is_declared_host
from s3gc.references.reader import ReadColumn
from s3gc.references.shapes import Shape
from s3gc.references.urls import compiled

__all__ = ["SAMPLES", "SAMPLE_LENGTH", "Hosts", "Tally", "shown", "tally_of"]

#: Values of one kind that are shown of a column.
SAMPLES = 5
SAMPLE_LENGTH = 200
#: Undeclared hosts kept of one column: the most frequent ones.
_HOSTS = 50
#: Where samples are looked for first, so that a large column is not read through for five of its values.
_FIRST_ROWS = 50_000
#: What makes a presigned URL one that can be used.
_SIGNATURE = re.compile(
    r"(?i)\b(signature|x-amz-signature|x-amz-security-token|x-amz-credential|sig)=[^&\s\"']+"
)

#: An undeclared host -> (values with it, those of them that name an object).
Hosts = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tally:
    """Values of one column that no spelling resolved, as far as they were looked at, by what they are.

    `counts` maps resolved, missing, elsewhere (on undeclared hosts without a single hit: not ours, as far as anybody
    can tell), outside, unparsed, other_bucket, foreign and ignored to a number of values.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    missing_samples: tuple[str, ...] = ()
    unparsed_samples: tuple[str, ...] = ()

    @property
    def seen(self) -> int:
        return sum(self.counts.values())


def tally_of(
    session: Session,
    columns: Sequence[ReadColumn],
    number: int,
    group: Group | None,
    odd: OddValues,
    named: str,
    work: Path,
    *,
    scope: Sequence[str],
    reserved: Sequence[str],
) -> tuple[Tally, Hosts]:
    """Return what the unresolved plain values of column `number` are, and the undeclared hosts of all of its values.

    `named` is the relation (col, row, with repetitions) of the values that name an object; `group` is None for a
    column of prefixes, none of which are plain.
    """
    rows = f"(SELECT row FROM {named} WHERE col = {number})"
    odd_hosts = f"({_hosts_of_odd(odd, rows)})"
    if group is None:
        return Tally(), _undeclared(session, odd_hosts, columns[number])
    kinds, hosts = work / f"plain-{number:04d}.parquet", work / f"hosts-{number:04d}.parquet"
    inside = _in_scope(group, scope, reserved)

    def unresolved(condition: str) -> str:
        open_rows = f"NOT EXISTS (SELECT 1 FROM {rows} r WHERE r.row = v.row AND {condition})"
        values = f"(SELECT * FROM {_plain(columns, number, group)} v WHERE {condition} AND {open_rows})"
        return f"(SELECT *, {inside} AS is_inside FROM {_styled(values, group)})"

    session.copy(
        f"SELECT host, means, is_shown, is_inside, count(*) AS n FROM {unresolved('true')} GROUP BY ALL",
        kinds,
    )
    # What is on a host and not unresolved names an object: only then may what is missing there be ours.
    missed = f"(SELECT host, sum(n) AS n FROM {table_of([kinds])} WHERE is_shown GROUP BY host)"
    session.copy(
        f"""
        SELECT host, sum(n)::BIGINT AS n, sum(hits)::BIGINT AS hits FROM (
            SELECT t.host, t.n, t.n - coalesce(m.n, 0) AS hits
            FROM {_plain_hosts(columns, number, group)} t LEFT JOIN {missed} m ON t.host = m.host
            UNION ALL SELECT host, n, hits FROM {odd_hosts}
        ) GROUP BY host""",
        hosts,
    )
    kind = _kind(hosts)
    counted = session.rows(f"SELECT {kind} AS kind, sum(n)::BIGINT FROM {table_of([kinds])} v GROUP BY kind")
    counts = {str(name): int(count) for name, count in counted}
    samples: list[str] = []
    if counts.get("missing"):
        for limit in (f"row < {_FIRST_ROWS}", "true"):
            found = session.rows(
                f"SELECT value FROM {unresolved(limit)} v WHERE {kind} = 'missing' ORDER BY row LIMIT {SAMPLES}"
            )
            samples = [shown(str(text)) for (text,) in found]
            if len(samples) >= min(SAMPLES, counts["missing"]):
                break
    return Tally(counts, tuple(samples)), _undeclared(session, table_of([hosts]), columns[number])


def shown(text: str) -> str:
    """Return a value as it may stand in a report: values of a database end up in reports and logs."""
    safe = redact(_SIGNATURE.sub(r"\1=***", text))
    return safe if len(safe) <= SAMPLE_LENGTH else safe[: SAMPLE_LENGTH - 1] + "…"


def _plain(columns: Sequence[ReadColumn], number: int, group: Group) -> str:
    is_key = group.format is ReferenceFormat.KEY
    return values_of(columns, [number], f"shape > {Shape.ODD.value}" if is_key else is_plain(group.rules))


def _styled(values: str, group: Group) -> str:
    """SQL for plain values with host, path, means, and whether the host is worth reporting as undeclared."""
    if group.format is ReferenceFormat.KEY:
        return f"(SELECT *, NULL::VARCHAR AS host, NULL::INTEGER AS means, false AS is_shown FROM {values})"
    is_shown = f"coalesce(means = {Means.ENDS.value} AND {_is_shown(group)}, false)"
    return f"(SELECT *, {is_shown} AS is_shown FROM {with_styles(values, group.rules, group.hosts)})"


def _is_shown(group: Group) -> str:
    """SQL for `shows_host` of `references.urls`: of an undeclared host, whether a person should hear of it."""
    known = compiled(group.rules).base_hosts | compiled(group.rules).endpoint_hosts
    names = ", ".join(quoted(host) for host in sorted(known)) or "''"
    return f"host NOT IN ({names}) AND (contains(host, '.') OR contains(split_part(value, '/', 3), ':'))"


def _plain_hosts(columns: Sequence[ReadColumn], number: int, group: Group) -> str:
    """SQL for host, n: how many plain values are on each undeclared host that a person should hear of."""
    nothing = "(SELECT ''::VARCHAR AS host, 0::BIGINT AS n WHERE false)"
    if group.format is ReferenceFormat.KEY or is_plain(group.rules) == "false":
        return nothing
    declared = [host for host, style in group.hosts.styles.items() if style.else_ is not Means.ENDS]
    names = ", ".join(quoted(host) for host in declared) or "''"
    heads = columns[number].heads
    if heads is None:
        values = f"(SELECT * FROM {_plain(columns, number, group)} WHERE shape >= {Shape.ADDRESS.value})"
        listed = f"SELECT {HOST} AS host, value, 1 AS n FROM {values}"
    elif heads:
        rows = ", ".join(f"({quoted(host_of(head))}, {quoted(head)}, {n})" for head, n in heads.items())
        listed = f"SELECT * FROM (VALUES {rows}) h(host, value, n)"
    else:
        return nothing
    return f"""(
        SELECT host, sum(n)::BIGINT AS n FROM ({listed})
        WHERE host NOT IN ({names}) AND {_is_shown(group)} GROUP BY host)"""


def _in_scope(group: Group, scope: Sequence[str], reserved: Sequence[str]) -> str:
    """SQL for whether a plain value means anything that the listing could have."""
    if "" in scope and all(prefix.startswith(".") for prefix in reserved):
        return "true"  # no plain value begins with a dot
    keys = keys_of(group.rules)
    if group.format is ReferenceFormat.KEY:
        starts = ", ".join(quoted(prefix) for prefix in compiled(group.rules).key_prefixes)
        keys = f"list_transform([{starts}], lambda p: p || value)"
    inside = f"{under_any('x', scope)} AND NOT {under_any('x', reserved)}"
    return f"(len(list_filter({keys}, lambda x: x IS NOT NULL AND {inside})) > 0)"


def _kind(hosts: Path) -> str:
    """SQL for what an unresolved plain value `v` is; the order is that of `rest`."""
    served = f"(SELECT host FROM {table_of([hosts])} WHERE hits > 0)"
    return f"""CASE
        WHEN v.means = {Means.OTHER.value} THEN 'other_bucket'
        WHEN v.means = {Means.FOREIGN.value} THEN 'foreign'
        WHEN NOT v.is_inside THEN 'outside'
        WHEN v.is_shown AND v.host NOT IN {served} THEN 'elsewhere'
        ELSE 'missing' END"""


def _hosts_of_odd(odd: OddValues, named_rows: str) -> str:
    """A query for host, n, hits: the hosts of all addresses in odd values."""
    if not odd.count:
        return "SELECT ''::VARCHAR AS host, 0::BIGINT AS n, 0::BIGINT AS hits WHERE false"
    values = f"(SELECT row, value FROM {odd.relation} WHERE NOT is_extra AND contains(value, '//'))"
    named = f"(SELECT DISTINCT n.row FROM {named_rows} n SEMI JOIN {values} o ON n.row = o.row)"
    return f"""
        SELECT host, count(*) AS n, count(r.row) AS hits
        FROM (SELECT row, unnest({hosts_in("value")}) AS host FROM {values}) v LEFT JOIN {named} r ON v.row = r.row
        WHERE host <> '' GROUP BY host"""


def _undeclared(session: Session, hosts: str, column: ReadColumn) -> dict[str, tuple[int, int]]:
    """The undeclared hosts of one column, the most frequent ones."""
    rows = session.rows(f"SELECT host, n, hits FROM {hosts} ORDER BY n DESC, host LIMIT {_HOSTS * 4}")
    undeclared = [row for row in rows if not is_declared_host(row[0], column.spec.rules)]
    return {str(host): (int(values), int(hits)) for host, values, hits in undeclared[:_HOSTS]}
