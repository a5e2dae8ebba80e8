"""What an address on some host means: nothing, its path, a part of it, or any end of it.

Whose a host is, is not decided here but asked of `references.urls.locate` itself, once a host, and then said in SQL
for every address on it. A host that nobody knows means every end of its path, which is the most that any host can
mean: so what is forgotten here keeps more, never less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from s3gc.plan.duck import Session, quoted
from s3gc.references.encodings import percent_readings
from s3gc.references.shapes import Shape
from s3gc.references.types import ReferenceRules
from s3gc.references.urls import Base, Kind, compiled, locate

__all__ = [
    "HOST",
    "OWN",
    "HostStyle",
    "Hosts",
    "Means",
    "begins_below",
    "host_of",
    "hosts_of",
    "starts_of",
    "with_styles",
]

#: Hosts asked about in one group of columns; what is beyond them counts as undeclared.
_MAX_HOSTS = 1_000
#: Beginnings of addresses that SQL compares one by one; the hosts of others it cuts out of each address.
_MAX_HEADS = 8

_IS_ADDRESS = f"shape >= {Shape.ADDRESS.value}"
_AUTHORITY = "split_part(value, '/', 3)"
#: SQL for the host of an address, lower case and without its port.
HOST = f"lower(split_part({_AUTHORITY}, ':', 1))"
_PATH = f"substr(value, strlen({_AUTHORITY}) + if(starts_with(value, 'https'), 10, 9))"
#: SQL: the beginning of a path that is a bucket's name and something in it.
_SOME_BUCKET = "'^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.'"


class Means(IntEnum):
    """What an address on some host means."""

    OTHER = 0  # nothing: provably another bucket's
    FOREIGN = 1  # nothing: somebody said so
    WHOLE = 2  # its path
    AFTER = 3  # what follows the bucket in its path
    ENDS = 4  # nobody knows: any end of its path
    BELOW = 5  # what follows a base that is declared for this host


#: SQL: what an address means on a host of our own bucket.
OWN = f"{Means.WHOLE.value}, {Means.AFTER.value}"


@dataclass(frozen=True, slots=True)
class HostStyle:
    """What an address on one host means, by what its path begins with: our bucket's name, what can only be another
    bucket's (`urls._names_other_bucket`), or anything else."""

    ours: Means
    theirs: Means
    else_: Means


_UNDECLARED = HostStyle(Means.ENDS, Means.ENDS, Means.ENDS)


@dataclass(frozen=True, slots=True)
class Hosts:
    """The hosts of some values. `styles` are of those that are not simply undeclared; `heads` are the commonest
    beginnings (``https://host:port/``) of addresses, and with `all_heads` there are no others."""

    styles: Mapping[str, HostStyle]
    heads: Sequence[str] = ()
    all_heads: bool = False


def hosts_of(
    session: Session, values: str, rules: ReferenceRules, heads: Mapping[str, int] | None = None
) -> Hosts:
    """Return the hosts of the addresses in `values`; `heads`, how often each beginning occurs, spares looking."""
    if heads is None:
        declared = {
            *rules.foreign_hosts,
            *rules.endpoint_hosts,
            *(base.host for base in compiled(rules).bases),
        } - {""}
        names = ", ".join(quoted(host) for host in sorted(declared)) or "''"
        bucket = quoted(rules.bucket.lower() + ".")
        rows = session.rows(
            f"""
            SELECT host, count(*) AS n FROM (SELECT {HOST} AS host FROM {values} WHERE {_IS_ADDRESS})
            WHERE host IN ({names}) OR starts_with(host, {bucket}) OR contains(host, 'amazonaws.')
               OR regexp_matches(host, '[.](?:gov|uk)$')
            GROUP BY host ORDER BY n DESC, host LIMIT {_MAX_HOSTS}"""
        )
        return Hosts(_styles((str(host) for host, _ in rows), rules))
    common = sorted(heads, key=lambda head: (-heads[head], head))[:_MAX_HEADS]
    return Hosts(_styles(map(host_of, heads), rules), common, len(common) == len(heads))


def host_of(head: str) -> str:
    """The host of an address or of its beginning, without the port: what SQL calls `host`."""
    return head.split("/")[2].partition(":")[0].lower()


def _styles(hosts: Iterable[str], rules: ReferenceRules) -> dict[str, HostStyle]:
    styles = {host: _style_of(host, rules) for host in dict.fromkeys(hosts)}
    return {host: style for host, style in styles.items() if style != _UNDECLARED}


def _style_of(host: str, rules: ReferenceRules) -> HostStyle:
    """Ask the full rules about `host`: declared bases are looked at for each path, so here without them."""
    bare = compiled(replace(rules, base_urls=()))

    def means(path: str) -> Means:
        place = locate(f"https://{host}/{path}", bare)
        if place is None or place.kind is Kind.UNDECLARED:
            return Means.ENDS
        if place.kind is Kind.OWN:
            return Means.WHOLE if place.rests[0][0] == path else Means.AFTER
        return Means.FOREIGN if place.kind is Kind.FOREIGN else Means.OTHER

    other = "aaa" if rules.bucket != "aaa" else "bbb"
    return HostStyle(ours=means(f"{rules.bucket}/k"), theirs=means(f"{other}/k"), else_=means("k/k"))


# --- in SQL


def with_styles(values: str, rules: ReferenceRules, hosts: Hosts) -> str:
    """Return SQL that adds to plain addresses their `host`, `path` (without its slash) and `means`, NULL for others."""
    heads = list(enumerate(hosts.heads))
    cases = " ".join(f"WHEN starts_with(value, {quoted(head)}) THEN {number}" for number, head in heads)
    head = f"CASE {cases} END" if cases else "NULL::INTEGER"
    found = f"SELECT *, {head} AS head FROM {values}"
    host = " ".join(f"WHEN {number} THEN {quoted(host_of(head))}" for number, head in heads)
    path = " ".join(f"WHEN {number} THEN substr(value, {len(head) + 1})" for number, head in heads)
    parted = f"""
        SELECT *, CASE {_first(host)} WHEN {_IS_ADDRESS} THEN {HOST} END AS host,
               CASE {_first(path)} WHEN {_IS_ADDRESS} THEN {_PATH} END AS path
        FROM ({found})"""
    others = {} if hosts.all_heads else hosts.styles
    listed, general = parted, f"{Means.ENDS.value}"
    if others:
        known = ", ".join(
            f"({quoted(name)}, {style.ours.value}, {style.theirs.value}, {style.else_.value})"
            for name, style in others.items()
        )
        listed = f"""
            SELECT v.*, s.ours, s.theirs, s.else_
            FROM ({parted}) v LEFT JOIN (VALUES {known}) s(host, ours, theirs, else_) ON v.host = s.host"""
        general = f"if(ours IS NULL, {Means.ENDS.value}, {_by_path('ours', 'theirs', 'else_', rules)})"
    bases = [base for base in compiled(rules).bases if base.host and not base.scheme]
    below = " OR ".join(f"(host = {quoted(base.host)} AND {_begins_base(base)})" for base in bases)
    of_heads = " ".join(
        f"WHEN {number} THEN {_of_host(host_of(head), rules, hosts.styles, bases)}" for number, head in heads
    )
    means = f"CASE {_first(of_heads)} WHEN {_IS_ADDRESS} THEN {_or_below(general, below)} END"
    return f"(SELECT *, {means} AS means FROM ({listed}))"


def _first(of_heads: str) -> str:
    """The beginning of a CASE that looks at the head first: one comparison of a number."""
    return f"WHEN head IS NOT NULL THEN CASE head {of_heads} END" if of_heads else ""


def _of_host(host: str, rules: ReferenceRules, styles: Mapping[str, HostStyle], bases: Sequence[Base]) -> str:
    style = styles.get(host, _UNDECLARED)
    means = _by_path(f"{style.ours.value}", f"{style.theirs.value}", f"{style.else_.value}", rules)
    return _or_below(means, " OR ".join(_begins_base(base) for base in bases if base.host == host))


def _by_path(ours: str, theirs: str, else_: str, rules: ReferenceRules) -> str:
    if ours == theirs == else_:
        return ours
    bucket = quoted(rules.bucket)
    begins = f"(starts_with(path, {bucket} || '/') OR path = {bucket})"
    if theirs == else_:
        return f"if({begins}, {ours}, {theirs})"
    names = f"regexp_matches(path, {_SOME_BUCKET}) AND NOT contains(path || '/', '/' || {bucket} || '/')"
    return (
        f"CASE WHEN {begins} THEN {ours} WHEN {theirs} = {else_} OR ({names}) THEN {theirs} ELSE {else_} END"
    )


def _or_below(means: str, below: str) -> str:
    """A base decides whose an address is, unless it is our bucket's own: then both hold."""
    return f"if(({below}) AND ({means}) NOT IN ({OWN}), {Means.BELOW.value}, {means})" if below else means


def _begins_base(base: Base) -> str:
    return "(" + " OR ".join(begins_below("path", start) for start in starts_of(base)) + ")"


def starts_of(base: Base) -> list[str]:
    """The path of a base as it may stand in a plain path: as written and decoded."""
    return list(dict.fromkeys((base.path, *percent_readings(base.path))))


def begins_below(path: str, start: str) -> str:
    """SQL: whether `path`, without its slash, begins with `start`, which has its slash or is empty."""
    return f"starts_with({path}, {quoted(start.removeprefix('/'))})" if start not in ("", "/") else "true"
