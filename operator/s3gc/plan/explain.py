"""Why is this object kept, or why would it go? Every answer about one key, from the same rules as a cycle.

`references_to` reads the databases for one key; `explain` is pure: facts in, explanation out. Its order is
the order in which a cycle decides, so the first thing that keeps an object is the sentence a person reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import Any

from s3gc.config import RESERVED_PREFIX, S3GCConfig
from s3gc.exceptions import redact
from s3gc.plan.maturity import is_ripe
from s3gc.references.extract import extract
from s3gc.references.matcher import Matcher
from s3gc.references.types import ColumnSpec, PrefixReference, Source, SourcePreflight

__all__ = ["Explanation", "KeyFacts", "NamedBy", "PastOperation", "explain", "references_to"]


#: What an operation did to an object that is not there any more, and that it can undo.
_TAKEN = ("deleted", "restored", "purged")


@dataclass(frozen=True, slots=True)
class NamedBy:
    """One column that names the key, and a value that does; `prefix` when that names only what is above it."""

    source: str
    column: str
    value: str
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class PastOperation:
    """What an operation of the vault did to this key: deleted, backed_up, restored and the like."""

    operation_id: str
    action: str
    at: datetime | None = None
    version_id: str | None = None


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What is known about a key. `exists` with `size`, `etag`, `last_modified`: from HEAD or a listing.

    `problem` says why the key is not actionable; `left_out` why the listing leaves it out; `first_listed` and
    `first_unreferenced` are those of the maturity state for exactly this object (None: not remembered).
    """

    key: str
    exists: bool
    size: int | None = None
    etag: str | None = None
    last_modified: datetime | None = None
    storage_class: str | None = None
    problem: str | None = None
    left_out: str | None = None
    first_listed: datetime | None = None
    first_unreferenced: datetime | None = None
    held_until: datetime | None = None
    held_because: str | None = None
    history: tuple[PastOperation, ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer about one key. `would_go` only when nothing at all keeps it; `sentence` says so in words.

    `reasons` are all the things that keep it, strongest first; the sentence gives the first. `age_days` is
    measured from `last_modified`, for a multipart object from `first_listed` where that is later.
    """

    key: str
    bucket: str
    exists: bool
    would_go: bool
    sentence: str
    reasons: tuple[str, ...]
    size: int | None
    etag: str | None
    last_modified: datetime | None
    storage_class: str | None
    age_days: float | None
    retention_days: float
    in_scope: bool
    excluded_by: str | None
    is_reserved: bool
    problem: str | None
    references: tuple[NamedBy, ...]
    held_until: datetime | None
    held_because: str | None
    first_listed: datetime | None
    first_unreferenced: datetime | None
    unreferenced_days: float
    ripe_at: datetime | None
    history: tuple[PastOperation, ...] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as JSON values; times as ISO 8601 in UTC."""
        return {item.name: _plain(getattr(self, item.name)) for item in fields(self)}


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, (NamedBy, PastOperation)):
        return {item.name: _plain(getattr(value, item.name)) for item in fields(value)}
    return value


async def references_to(
    key: str, sources: Sequence[Source], preflights: Sequence[SourcePreflight]
) -> list[NamedBy]:
    """Read every column by the full rules until it names `key`; returns one hit for each column that does."""
    found: list[NamedBy] = []
    for source, preflight in zip(sources, preflights, strict=True):
        async with source.snapshot() as snapshot:
            for spec in preflight.columns:
                matcher = Matcher([key], [spec])
                async for batch in snapshot.values(spec):
                    hit = await asyncio.to_thread(_first_hit, matcher, spec, batch, key)
                    if hit is not None:
                        found.append(hit)
                        break
    return found


def _first_hit(matcher: Matcher, spec: ColumnSpec, batch: Sequence[object], key: str) -> NamedBy | None:
    from s3gc.references.reader import texts_of

    for value in batch:
        if value is None:
            continue
        given: list[object] = [value] if isinstance(value, str) else [value, *texts_of(value)]
        matcher.feed(spec, given)
        if key in matcher.referenced:
            meanings = [extract(item, spec.format, spec.rules) for item in given]
            prefixes = {prefix for meaning in meanings for prefix in meaning.prefixes if prefix}
            above = max((prefix for prefix in prefixes if key.startswith(prefix)), key=len, default=None)
            exact = any(key in meaning.keys for meaning in meanings)
            shown = redact(str(PrefixReference(texts_of(value)[0])))[:200]
            return NamedBy(spec.source, spec.label, shown, None if exact else above)
    return None


def explain(
    facts: KeyFacts,
    references: Sequence[NamedBy],
    *,
    config: S3GCConfig,
    now: datetime,
    has_source: bool = True,
) -> Explanation:
    """Say what keeps the object, or that it would go. `now` is the store's time, not this machine's."""
    key = facts.key
    in_scope = key.startswith(config.effective_prefixes)
    excluded_by = next((prefix for prefix in config.exclude_prefixes if key.startswith(prefix)), None)
    is_reserved = key.startswith(RESERVED_PREFIX)
    since = _age_from(facts)
    age_days = None if since is None else (now - since).total_seconds() / 86400
    ripe_at = None
    if facts.exists and not references:
        ripe_at = (facts.first_unreferenced or now) + timedelta(days=config.unreferenced_days)
    reasons = [
        *_kept_by_rules(facts, config, in_scope=in_scope, excluded_by=excluded_by, is_reserved=is_reserved),
        *_kept_by_age(facts, config, age_days),
        *_kept_by_references(references, has_source),
    ]
    if facts.held_until is not None and facts.held_until > now:
        why = f" ({facts.held_because})" if facts.held_because else ""
        reasons.append(f"it is held until {_day(facts.held_until)}{why}")
    if not references and not is_ripe(facts.first_unreferenced, now, config.unreferenced_days):
        known = facts.first_unreferenced
        seen = f"only since {_day(known)}" if known else "not yet in any believed cycle"
        reasons.append(
            f"it has been seen unreferenced {seen}, and must be for {config.unreferenced_days:g} days"
        )
    would_go = facts.exists and not reasons
    return Explanation(
        key=key,
        bucket=config.bucket,
        exists=facts.exists,
        would_go=would_go,
        sentence=_sentence(facts, references, reasons, age_days),
        reasons=tuple(reasons),
        size=facts.size,
        etag=facts.etag,
        last_modified=facts.last_modified,
        storage_class=facts.storage_class,
        age_days=None if age_days is None else round(age_days, 3),
        retention_days=config.retention_days,
        in_scope=in_scope,
        excluded_by=excluded_by,
        is_reserved=is_reserved,
        problem=facts.problem,
        references=tuple(references),
        held_until=facts.held_until,
        held_because=facts.held_because,
        first_listed=facts.first_listed,
        first_unreferenced=facts.first_unreferenced,
        unreferenced_days=config.unreferenced_days,
        ripe_at=ripe_at,
        history=facts.history,
    )


def _age_from(facts: KeyFacts) -> datetime | None:
    """The time that the age counts from: a multipart object's `last_modified` is that of its initiation."""
    if facts.last_modified is None or not facts.exists:
        return None
    if _is_multipart(facts) and facts.first_listed is not None:
        return max(facts.last_modified, facts.first_listed)
    return facts.last_modified


def _is_multipart(facts: KeyFacts) -> bool:
    _, dash, parts = (facts.etag or "").rpartition("-")
    return bool(dash) and parts.isascii() and parts.isdigit()


def _kept_by_rules(
    facts: KeyFacts, config: S3GCConfig, *, in_scope: bool, excluded_by: str | None, is_reserved: bool
) -> list[str]:
    reasons: list[str] = []
    if is_reserved:
        reasons.append(f"{RESERVED_PREFIX} is reserved for s3gc itself")
    if facts.left_out:
        reasons.append(f"the listing leaves it out: {facts.left_out}")
    if not in_scope:
        shown = ", ".join(repr(prefix) for prefix in config.effective_prefixes[:5])
        reasons.append(f"it is outside the scope's prefixes ({shown})")
    if excluded_by is not None:
        reasons.append(f"it is under the excluded prefix {excluded_by!r}")
    if facts.problem:
        reasons.append(f"its key is not actionable: it {facts.problem}")
    return reasons


def _kept_by_age(facts: KeyFacts, config: S3GCConfig, age_days: float | None) -> list[str]:
    if not facts.exists:
        return []
    if age_days is None:
        return ["its age is unknown"]
    if _is_multipart(facts) and facts.first_listed is None and config.retention_days > 0:
        return ["it was uploaded in parts, and its age counts from the first listing that sees it"]
    if age_days <= 0:
        # A store's clock shows whole seconds, so an object of this second may be newer than the listing.
        return [
            f"it was written at {_second(facts.last_modified)} by the store's clock, which shows no later second yet, "
            f"and must be older than that even with retention_days {config.retention_days:g}; ask again in a moment"
        ]
    if age_days <= config.retention_days and config.retention_days > 0:
        return [f"it is {_age(age_days)} old, and retention_days is {config.retention_days:g}"]
    return []


def _kept_by_references(references: Sequence[NamedBy], has_source: bool) -> list[str]:
    if not has_source:
        return ["no database is configured, so nothing proves it unreferenced"]
    reasons: list[str] = []
    for named in references:
        above = f" (everything under {named.prefix!r})" if named.prefix is not None else ""
        reasons.append(f"{named.source}: {named.column} names it by {named.value!r}{above}")
    return reasons


def _sentence(
    facts: KeyFacts, references: Sequence[NamedBy], reasons: Sequence[str], age_days: float | None
) -> str:
    if not facts.exists:
        past = next((item for item in facts.history if item.action in _TAKEN), None)
        if past is not None and past.action == "purged":
            return (
                f"there is no such object: operation {past.operation_id} deleted it, and its version was purged since. "
                "The vault has the only copy, and it can be restored"
            )
        if past is not None:
            return (
                f"there is no such object: operation {past.operation_id} deleted it, and it can be restored"
            )
        if references:
            return (
                f"there is no such object, although {references[0].source}: {references[0].column} names it"
            )
        return "there is no such object"
    if reasons:
        return f"kept because {reasons[0]}"
    return f"would go because no reference names it, it is {_age(age_days or 0)} old, and nothing holds it"


def _age(days: float) -> str:
    """``30.0 days``, ``5 hours``, ``12 seconds``: the largest unit that it fills."""
    for size, unit in ((24, "hours"), (24 * 60, "minutes")):
        if days < 1 <= days * size:
            return f"{int(days * size)} {unit}"
    return f"{days:.1f} days" if days >= 1 else f"{int(days * 86400)} seconds"


def _second(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _day(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
