"""Derivatives in SQL: a thumbnail that a template makes of a key stays as long as the key is referenced."""

from __future__ import annotations

from collections.abc import Sequence
from string import Formatter

from s3gc.plan.duck import quoted
from s3gc.references.types import ReferenceRules

__all__ = ["derived_keys_sql", "with_derived"]


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
