"""The keys of plain values, exactly, as SQL over everything at once: the part of the join that millions take.

A value whose shape is known (`references.shapes`: one path, one web address) means itself, its path, and what follows
a host, a bucket or a declared base in it, and nothing else. Here that is said in SQL: a few hundred nanoseconds a
value in place of a hundred microseconds.

Why this is safe: a value is *settled*, so that the full rules never see it, only if every key that they would find in
it is among those compared here. Whose address a host is, is not decided here but asked of `references.urls.locate`
itself, once a host; a host that nobody knows means every end of its path, which is the most that any host can mean.
Tests hold these keys against the full rules over hostile values.

Relations of values have `col`, `row`, `value`, `shape`; those of keys `col`, `row`, `key`, `derived`. A derived key
keeps its object, but does not show that the reference itself names one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from string import Formatter

from s3gc.plan.duck import Session, quoted
from s3gc.references.encodings import percent_readings
from s3gc.references.shapes import Shape
from s3gc.references.types import ReferenceRules
from s3gc.references.urls import Base, Kind, compiled, locate

__all__ = [
    "HOST",
    "MAX_BASES",
    "HostStyle",
    "Means",
    "derived_keys_sql",
    "is_plain",
    "is_settled",
    "keys_of",
    "plain_keys",
    "styles_of",
    "with_derived",
    "with_styles",
]

#: With more declared bases than this no value is settled; SQL would grow with them.
MAX_BASES = 64
#: Hosts asked about in one column; what is beyond them counts as undeclared, which keeps more.
_MAX_HOSTS = 1_000

#: SQL for the host of an address, lower case and without its port.
HOST = "lower(split_part(split_part(value, '/', 3), ':', 1))"


class Means(IntEnum):
    """What an address on some host means."""

    OTHER = 0  # nothing: provably another bucket's
    FOREIGN = 1  # nothing: somebody said so
    WHOLE = 2  # its path
    AFTER = 3  # what follows the bucket in its path
    ENDS = 4  # nobody knows: any end of its path
    BELOW = 5  # what follows a base that is declared for this host


@dataclass(frozen=True, slots=True)
class HostStyle:
    """What an address on one host means: `with_bucket` if its path begins with our bucket's name, else `plain`."""

    plain: Means
    with_bucket: Means


_UNDECLARED = HostStyle(Means.ENDS, Means.ENDS)
#: SQL: what an address means on a host of our own bucket.
_OWN = f"{Means.WHOLE.value}, {Means.AFTER.value}"


def styles_of(session: Session, values: str, rules: ReferenceRules) -> dict[str, HostStyle]:
    """Return what addresses mean on each host of `values` that is not simply undeclared."""
    declared = {
        *rules.foreign_hosts,
        *rules.endpoint_hosts,
        *(base.host for base in compiled(rules).bases),
    } - {""}
    names = ", ".join(quoted(host) for host in sorted(declared)) or "''"
    bucket = quoted(rules.bucket.lower() + ".")
    hosts = session.rows(
        f"""
        SELECT host, count(*) AS n FROM (SELECT {HOST} AS host FROM {values} WHERE shape >= {Shape.ADDRESS.value})
        WHERE host IN ({names}) OR starts_with(host, {bucket}) OR contains(host, 'amazonaws.')
           OR regexp_matches(host, '[.](?:gov|uk)$')
        GROUP BY host ORDER BY n DESC, host LIMIT {_MAX_HOSTS}"""
    )
    styles = {str(host): _style_of(str(host), rules) for host, _ in hosts}
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

    return HostStyle(means("k/k"), means(f"{rules.bucket}/k"))


def with_styles(values: str, rules: ReferenceRules, styles: Mapping[str, HostStyle]) -> str:
    """Return SQL that adds to addresses their `host`, `path` (without its slash) and `means`, NULL for others."""
    authority = "split_part(value, '/', 3)"
    parted = f"""
        SELECT *, CASE WHEN shape >= {Shape.ADDRESS.value} THEN {HOST} END AS host,
               CASE WHEN shape >= {Shape.ADDRESS.value}
                    THEN substr(value, strlen({authority}) + if(starts_with(value, 'https'), 10, 9)) END AS path
        FROM {values}"""
    found, means = parted, f"{Means.ENDS.value}"
    if styles:
        known = ", ".join(
            f"({quoted(host)}, {style.plain.value}, {style.with_bucket.value})"
            for host, style in styles.items()
        )
        begins = f"starts_with(path, {quoted(rules.bucket + '/')})"
        means = f"coalesce(if({begins}, with_bucket, plain), {Means.ENDS.value})"
        found = f"""
            SELECT v.*, s.plain, s.with_bucket
            FROM ({parted}) v LEFT JOIN (VALUES {known}) s(host, plain, with_bucket) ON v.host = s.host"""
    hosted = [
        f"(host = {quoted(base.host)} AND {_begins('path', start)})"
        for base in compiled(rules).bases
        if base.host and not base.scheme
        for start in _starts(base)
    ]
    if hosted:
        # A base decides whose an address is, unless it is our bucket's own: then both hold.
        own = f"{means} IN ({_OWN})"
        means = f"if(({' OR '.join(hosted)}) AND NOT {own}, {Means.BELOW.value}, {means})"
    return f"(SELECT *, CASE WHEN host IS NOT NULL THEN {means} END AS means FROM ({found}))"


def is_settled(rules: ReferenceRules) -> bool:
    """Whether the keys of `plain_keys` are all that a plain value can keep: no derivative keeps a whole folder."""
    return not any(template.endswith("/") for template in rules.derivatives)


def is_plain(rules: ReferenceRules) -> str:
    """Return an SQL condition over values: `plain_keys` has all of its keys."""
    bases = compiled(rules).bases
    if len(bases) > MAX_BASES:
        return "false"
    inside = quoted(f"/{rules.bucket}/")
    first = f"'^https?://[^/]*/{re.escape(rules.bucket)}/'"
    endpoints = ", ".join(["''", *(quoted(host) for host in sorted(rules.endpoint_hosts))])
    conditions = [
        f"shape > {Shape.ODD.value}",
        # Our bucket further on in a path: what follows it may be the key, wherever it is.
        f"NOT (shape = {Shape.PATH.value} AND contains(value, {inside}))",
        f"NOT (shape >= {Shape.ADDRESS.value} AND contains(regexp_replace(value, {first}, ''), {inside}))",
        # Behind an endpoint's host only what begins with our bucket is placed as SQL would place it.
        f"NOT (shape >= {Shape.ADDRESS.value} AND {HOST} IN ({endpoints}) AND NOT regexp_matches(value, {first}))",
    ]
    for start in dict.fromkeys(start for base in bases if not base.scheme for start in _starts(base)):
        if not start.endswith("/") and start:
            # A base that ends inside a segment may leave "../a" behind, which is resolved.
            rest = f"substr('/' || value, {len(start) + 1})"
            conditions.append(
                f"NOT (shape = {Shape.PATH.value} AND starts_with('/' || value, {quoted(start)}) "
                f"AND regexp_matches({rest}, '^[.]{{1,2}}(/|$)'))"
            )
    return "(" + " AND ".join(conditions) + ")"


def plain_keys(
    values: str, rules: ReferenceRules, styles: Mapping[str, HostStyle], *, addresses: bool = True
) -> str:
    """Return a query for all keys of the plain `values` (those that are not plain must not be in it).

    `addresses`: whether an object's key may itself be an address; else that spelling of one is left out.
    """
    keys = keys_of(rules, addresses=addresses)
    listed = f"SELECT col, row, {keys} AS keys FROM {with_styles(values, rules, styles)}"
    return with_derived(f"SELECT col, row, unnest(keys) AS key, false AS derived FROM ({listed})", rules)


def with_derived(keys: str, rules: ReferenceRules) -> str:
    """Return a query for `keys` and what the templates of `rules` make of them; without the empty and the missing."""
    if not rules.derivatives:
        return f"SELECT * FROM ({keys}) WHERE key <> ''"
    derived = derived_keys_sql("key", rules.derivatives)
    return f"""
        WITH plain AS ({keys})
        SELECT * FROM plain WHERE key <> ''
        UNION ALL
        SELECT col, row, unnest([{", ".join(derived)}]) AS key, true AS derived FROM plain WHERE key <> ''"""


def keys_of(rules: ReferenceRules, *, addresses: bool = True) -> str:
    """Return SQL for the list of the keys of one plain value of `with_styles`; NULLs in it mean nothing."""
    prefixes = compiled(rules).key_prefixes
    keys = _keys(rules, addresses=addresses)
    if len(prefixes) == 1:
        return keys
    starts = ", ".join(quoted(prefix) for prefix in prefixes)
    return f"flatten(list_transform([{starts}], lambda p: list_transform({keys}, lambda k: p || k)))"


def _keys(rules: ReferenceRules, *, addresses: bool) -> str:
    """The same without the column's key prefixes."""
    bases = [base for base in compiled(rules).bases if not base.scheme]
    itself = ["value"] if addresses else []
    here = [
        f"CASE WHEN host = {quoted(base.host)} THEN {key} END"
        for base in bases
        if base.host
        for key in _below([base], "path")
    ]
    after = f"substr(path, {len(rules.bucket) + 2})"
    own = f"if(means = {Means.WHOLE.value}, path, {after})"
    ends = _ends("path")
    any_end = f"list_concat({ends}, {_list([*_below(bases, 'path'), *itself])})"
    # Behind what may be the options of an image proxy, any end of the path may be the key, or below a base.
    optional = f"list_concat({ends}, flatten(list_transform({ends}, lambda e: {_list(_below(bases, 'e'))})))"
    is_own = f"means IN ({_OWN})"
    is_optional = f"shape = {Shape.OPTIONS.value}"
    of_own, of_base = _list([own, *here, *itself]), _list([*here, *itself])
    return f"""CASE
        WHEN shape = {Shape.PATH.value} THEN {_list(["value", *_below(bases, "value")])}
        WHEN {is_own} AND {is_optional} THEN list_concat({of_own}, {optional})
        WHEN {is_own} THEN {of_own}
        WHEN means = {Means.BELOW.value} AND {is_optional} THEN list_concat({of_base}, {optional})
        WHEN means = {Means.BELOW.value} THEN {of_base}
        WHEN means = {Means.ENDS.value} THEN {any_end}
        ELSE {_list(itself)} END"""


def _list(items: Sequence[str]) -> str:
    return f"[{', '.join(items)}]" if items else "[NULL::VARCHAR]"


def _ends(path: str) -> str:
    """SQL for the list of `path` and of what follows each of its slashes."""
    parts = f"string_split({path}, '/')"
    return f"list_transform(range(1, len({parts}) + 1), lambda n: array_to_string(list_slice({parts}, n, -1), '/'))"


def _starts(base: Base) -> list[str]:
    """The path of a base as it may stand in a plain path: as written and decoded."""
    return list(dict.fromkeys((base.path, *percent_readings(base.path))))


def _begins(path: str, start: str) -> str:
    return "true" if start in ("", "/") else f"starts_with('/' || {path}, {quoted(start)})"


def _below(bases: Sequence[Base], path: str) -> list[str]:
    """SQL for the keys that `path` (without its slash) has below each of `bases`; NULL where it is not below one."""
    found: dict[str, None] = {}
    for base in bases:
        for start in _starts(base):
            rest = path if start in ("", "/") else f"ltrim(substr('/' || {path}, {len(start) + 1}), '/')"
            for prefix in base.key_prefixes:
                key = f"{quoted(prefix)} || {rest}" if prefix else rest
                # Nothing below a base means nothing, whatever its key prefix is.
                test = "" if start in ("", "/") else f"{_begins(path, start)} AND {rest} <> ''"
                found[f"CASE WHEN {test} THEN {key} END" if test else key] = None
    return list(found)


def derived_keys_sql(key: str, templates: Sequence[str]) -> list[str]:
    """Return one SQL expression for each template: what it makes of the key in the expression `key`.

    Exactly `references.derivatives.derived_keys`; a test compares the two over random keys.
    """
    name = f"regexp_extract({key}, '[^/]*$')"
    ext = f"regexp_extract({name}, '^[.]*[^.].*?([.][^.]*)$', 1, 's')"
    parts = {
        "key": key,
        "name": name,
        "ext": ext,
        "dir": f"left({key}, length({key}) - length({name}))",
        "stem": f"left({key}, length({key}) - length({ext}))",
    }
    found: list[str] = []
    for template in templates:
        pieces: list[str] = []
        for literal, part, _, _ in Formatter().parse(template):
            pieces += [quoted(literal)] if literal else []
            pieces += [parts[part]] if part else []
        found.append(" || ".join(pieces))
    return found
