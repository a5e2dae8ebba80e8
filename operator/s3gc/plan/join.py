"""Objects minus references: which objects of the scope does no reference name?

Two stages, because the full rules cost a hundred microseconds a value and what most values mean costs none:

A   The keys of every plain value (`plain`) and the commonest of every other (`spellings`), joined with the objects,
    exactly and vectorised, spilling to disk. What none of them names is left over: C1. Prefix references (`prefixes`)
    keep what is under them.
B   The full rules (`fullrules`), but only for C1: all values that stage A did not settle stream past a `Matcher` that
    holds a bounded chunk of C1, as many times as C1 has chunks.

Why this is safe: a name found by either stage keeps its object, and stage B by itself finds everything that
`references.extract` finds. Stage A can only shrink the set that B looks at. An error anywhere leaves no candidates.

All inputs and outputs are Parquet files; memory is DuckDB's limit plus one chunk of keys.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from s3gc.config import ReferenceFormat, S3GCConfig
from s3gc.plan import fullrules, prefixes
from s3gc.plan.coverage import Missing, measure
from s3gc.plan.duck import Session, open_session, table_of, timestamp
from s3gc.plan.groups import Group, OddValues, grouped, put_aside, values_of
from s3gc.plan.maturity import next_state, ripe_since
from s3gc.plan.plain import is_plain, plain_keys
from s3gc.plan.scope import IN_SCOPE, Verdict, classify
from s3gc.plan.spellings import MAX_BYTES, common_keys, exact_keys
from s3gc.references.reader import ReadColumn
from s3gc.results import ColumnCoverage

if TYPE_CHECKING:
    from s3gc.inventory.listing import Inventory

__all__ = ["JoinCounts", "Joined", "find_candidates"]

#: Memory that each group of columns (same format and rules) in one statement may need for vectors of its own.
_MEMORY_A_GROUP_MB = 64


@dataclass(frozen=True, slots=True)
class JoinCounts:
    """Objects of the scope, counted once each: scanned = young + excluded + not_actionable + judged.

    Of the judged, those are `unverifiable` that could not be compared with anything (no source at all),
    `held` those that nothing but a hold keeps, `candidates` those that nothing keeps; of these `waiting`
    are not ripe yet.
    """

    scanned: int = 0
    bytes: int = 0
    judged: int = 0
    young: int = 0
    excluded: int = 0
    not_actionable: int = 0
    unverifiable: int = 0
    held: int = 0
    candidates: int = 0
    candidate_bytes: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Joined:
    """What the join found. `candidates` has `planfile.PLAN_SCHEMA` (waiting ones included), `state` the
    maturity that may be saved once the trust guards passed."""

    candidates: Path
    state: Path
    t0: datetime
    counts: JoinCounts
    coverage: tuple[ColumnCoverage, ...]
    missing: Missing
    full_rule_calls: int


async def find_candidates(
    inventory: Inventory,
    columns: Sequence[ReadColumn],
    *,
    config: S3GCConfig,
    work: Path,
    state: Path | None = None,
    holds: Path | None = None,
    chunk_keys: int = fullrules.CHUNK_KEYS,
    sample_values: int = 50_000,
    progress: Callable[[int], None] | None = None,
) -> Joined:
    """Join `inventory` with `columns`; writes into `work` and returns the candidates, the counts and the
    coverage.

    `state` and `holds` are local copies of the vault's `state.parquet` and `holds.parquet`; a hold counts
    while its `until` is after the inventory's T0. No columns at all means no source: everything is
    unverifiable and nothing is a candidate. `progress` gets the number of values that went past the full
    rules. Runs in a thread; cancelling the task interrupts the running query and waits for the thread.
    """
    stop = threading.Event()
    task = asyncio.ensure_future(
        asyncio.to_thread(
            _find, inventory, columns, config, work, state, holds, chunk_keys, sample_values, progress, stop
        )
    )
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.gather(task, return_exceptions=True)
        raise


def _find(
    inventory: Inventory,
    columns: Sequence[ReadColumn],
    config: S3GCConfig,
    work: Path,
    state: Path | None,
    holds: Path | None,
    chunk_keys: int,
    sample_values: int,
    progress: Callable[[int], None] | None,
    stop: threading.Event,
) -> Joined:
    work.mkdir(parents=True, exist_ok=True)
    with open_session(work, memory_limit_mb=config.memory_limit_mb, stop=stop) as session:
        objects = classify(session, inventory.files, work, config=config, t0=inventory.t0, state=state)
        counts = objects.counts
        groups, odd = grouped(session, columns), put_aside(session, columns, work)
        (addresses,) = session.one(
            f"SELECT coalesce(bool_or(contains(key, '://')), false) FROM {objects.keys}"
        )
        at_once = max(1, config.memory_limit_mb // _MEMORY_A_GROUP_MB)
        hits = _cheap_hits(
            session, objects.keys, columns, groups, odd, work, addresses=bool(addresses), at_once=at_once
        )
        found = prefixes.find(session, objects.all, columns, odd, work)
        left = work / "unnamed.parquet"
        session.copy(
            f"""
            SELECT o.* FROM {objects.all} o
            WHERE o.verdict = {Verdict.JUDGED.value} AND {bool(columns)}
              AND NOT EXISTS (SELECT 1 FROM {table_of([*hits, found.hits])} h WHERE h.oid = o.oid)""",
            left,
        )
        named = fullrules.find(
            session, left, columns, odd, work, prefixes=found, chunk_keys=chunk_keys, progress=progress
        )
        candidates = work / "candidates.parquet"
        held = _write_candidates(session, left, named.keys, holds, candidates, inventory.t0)
        ripe = timestamp(ripe_since(inventory.t0, config.unreferenced_days))
        total, size, waiting = session.one(
            f"""
            SELECT count(*), coalesce(sum(size), 0)::BIGINT,
                   count(*) FILTER (first_unreferenced > {ripe})
            FROM {table_of([candidates])}"""
        )
        new_state = work / "state.parquet"
        next_state(session, objects.all, [candidates], new_state, t0=inventory.t0, in_scope=IN_SCOPE)
        coverage, missing = measure(
            session,
            objects.keys,
            columns,
            groups,
            odd,
            [*hits, found.hits],
            work,
            config=config,
            left_out=tuple(inventory.left_out),
            kept=found.kept,
            sample_values=sample_values,
        )
    return Joined(
        candidates=candidates,
        state=new_state,
        t0=inventory.t0,
        counts=JoinCounts(
            scanned=counts.scanned,
            bytes=counts.bytes,
            judged=counts.judged,
            young=counts.young,
            excluded=counts.excluded,
            not_actionable=counts.not_actionable,
            unverifiable=0 if columns else counts.judged,
            held=held,
            candidates=int(total),
            candidate_bytes=int(size),
            waiting=int(waiting),
        ),
        coverage=coverage,
        missing=missing,
        full_rule_calls=named.full_rule_calls,
    )


def _cheap_hits(
    session: Session,
    listed: str,
    columns: Sequence[ReadColumn],
    groups: Sequence[Group],
    odd: Sequence[OddValues],
    work: Path,
    *,
    addresses: bool,
    at_once: int,
) -> list[Path]:
    """Stage A: write which value (col, row) names which object (oid) by a plain or common spelling."""
    files: list[Path] = []
    for part in _parts(groups, at_once):
        keys = " UNION ALL ".join(
            f"({query})" for group in part for query in _keys_of(columns, group, odd, addresses=addresses)
        )
        path = work / f"hits-{len(files):03d}.parquet"
        session.copy(
            f"SELECT k.col, k.row, o.oid, k.derived FROM ({keys}) k JOIN {listed} o ON k.key = o.key", path
        )
        files.append(path)
    return files


def _keys_of(
    columns: Sequence[ReadColumn], group: Group, odd: Sequence[OddValues], *, addresses: bool
) -> Iterator[str]:
    """Yield queries for the keys of one group's values."""
    rules = group.rules
    if group.format is ReferenceFormat.KEY:
        yield exact_keys(values_of(columns, group.numbers, "true"), rules)
        return
    if (condition := is_plain(rules)) != "false":
        plain = values_of(columns, group.numbers, condition)
        yield plain_keys(plain, rules, group.hosts, addresses=addresses)
    parts = [
        f"SELECT {number}::INTEGER AS col, row, value FROM {odd[number].relation} "
        f"WHERE NOT is_prefix AND strlen(value) <= {MAX_BYTES}"
        for number in group.numbers
        if odd[number].count
    ]
    if parts:
        yield common_keys(f"({' UNION ALL '.join(parts)})", rules)


def _parts(groups: Sequence[Group], size: int) -> Iterator[Sequence[Group]]:
    return (groups[start : start + size] for start in range(0, len(groups), size))


def _write_candidates(
    session: Session, left: Path, named: Path, holds: Path | None, candidates: Path, t0: datetime
) -> int:
    """Write what nothing names and no hold keeps; returns how many only a hold keeps."""
    unnamed = f"""
        SELECT o.key, o.etag, o.size, o.last_modified, o.storage_class, o.first_listed,
               coalesce(o.was_unreferenced, {timestamp(t0)}) AS first_unreferenced
        FROM {table_of([left])} o
        WHERE NOT EXISTS (SELECT 1 FROM {table_of([named])} n WHERE n.key = o.key)"""
    if holds is None:
        session.copy(unnamed, candidates)
        return 0
    held = f"EXISTS (SELECT 1 FROM {table_of([holds])} h WHERE h.key = u.key AND h.until > {timestamp(t0)})"
    session.copy(f"SELECT u.* FROM ({unnamed}) u WHERE NOT {held}", candidates)
    return int(session.one(f"SELECT count(*) FROM ({unnamed}) u WHERE {held}")[0])
