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

from collections.abc import Sequence

from s3gc.plan.derived import with_derived
from s3gc.plan.duck import quoted
from s3gc.plan.hoststyles import OWN, Hosts, Means, begins_below, starts_of, with_styles
from s3gc.references.shapes import Shape
from s3gc.references.types import ReferenceRules
from s3gc.references.urls import Base, compiled

__all__ = ["MAX_BASES", "is_plain", "is_settled", "keys_of", "plain_keys"]

#: With more declared bases than this no value is settled; SQL would grow with them.
MAX_BASES = 64


def is_settled(rules: ReferenceRules) -> bool:
    """Whether the keys of `plain_keys` are all that a plain value can keep: no derivative keeps a whole folder."""
    return not any(template.endswith("/") for template in rules.derivatives)


def is_plain(rules: ReferenceRules) -> str:
    """Return an SQL condition over values: `plain_keys` has all of its keys."""
    bases = compiled(rules).bases
    if len(bases) > MAX_BASES:
        return "false"
    inside = quoted(f"/{rules.bucket}/")
    # Our bucket further on in a path: what follows it may be the key, wherever it is.
    conditions = [
        f"shape > {Shape.ODD.value}",
        f"NOT (shape = {Shape.PATH.value} AND contains(value, {inside}))",
    ]
    for start in dict.fromkeys(start for base in bases if not base.scheme for start in starts_of(base)):
        if not start.endswith("/") and start:
            # A base that ends inside a segment may leave "../a" behind, which is resolved.
            rest = f"substr(value, {len(start.removeprefix('/')) + 1})"
            conditions.append(
                f"NOT (shape = {Shape.PATH.value} AND {begins_below('value', start)} "
                f"AND regexp_matches({rest}, '^[.]{{1,2}}(/|$)'))"
            )
    return "(" + " AND ".join(conditions) + ")"


def plain_keys(values: str, rules: ReferenceRules, hosts: Hosts, *, addresses: bool = True) -> str:
    """Return a query for all keys of the plain `values` (those that are not plain must not be in it).

    `addresses`: whether an object's key may itself be an address; else that spelling of one is left out.
    """
    keys = keys_of(rules, addresses=addresses)
    listed = f"SELECT col, row, {keys} AS keys FROM {with_styles(values, rules, hosts)}"
    return with_derived(f"SELECT col, row, unnest(keys) AS key, false AS derived FROM ({listed})", rules)


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
    in_some_base = " OR ".join(begins_below("value", start) for base in bases for start in starts_of(base))
    itself = ["value"] if addresses else []
    hosts = list(dict.fromkeys(base.host for base in bases if base.host))
    here = [
        f"CASE WHEN host = {quoted(host)} THEN {key} END"
        for host in hosts
        for key in _below([base for base in bases if base.host == host], "path")
    ]
    after = f"substr(path, {len(rules.bucket) + 2})"
    own = f"if(means = {Means.WHOLE.value}, path, {after})"
    ends = _ends("path")
    any_end = f"list_concat({ends}, {_list([*_below(bases, 'path'), *itself])})"
    # Behind what may be the options of an image proxy, any end of the path may be the key, or below a base.
    optional = f"list_concat({ends}, flatten(list_transform({ends}, lambda e: {_list(_below(bases, 'e'))})))"
    is_own = f"means IN ({OWN})"
    is_optional = f"shape = {Shape.OPTIONS.value}"
    of_own, of_base = _list([own, *here, *itself]), _list([*here, *itself])
    return f"""CASE
        WHEN shape = {Shape.PATH.value} AND NOT ({in_some_base}) THEN [value]
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


def _below(bases: Sequence[Base], path: str) -> list[str]:
    """SQL for the keys that `path` (without its slash) has below each of `bases`; NULL where it is not below one."""
    found: dict[str, None] = {}
    for base in bases:
        for start in starts_of(base):
            # A plain path has no empty segment: after a start that ends in a slash there is something, and no slash.
            rest = f"substr({path}, {len(start.removeprefix('/')) + 1})"
            rest = rest if start.endswith("/") else f"nullif(ltrim({rest}, '/'), '')"
            rest = path if start in ("", "/") else rest
            for prefix in base.key_prefixes:
                key = f"{quoted(prefix)} || {rest}" if prefix else rest
                test = begins_below(path, start)
                found[key if test == "true" else f"CASE WHEN {test} THEN {key} END"] = None
    return list(found)
