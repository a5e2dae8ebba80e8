"""Which `where` looks at the row alone: only what is known to is followed, everything else is read again."""

from __future__ import annotations

import pytest

from s3gc.references.cdc.postgres_conditions import what_may_change

COLUMNS = {"id", "k", "note", "deleted_at", "Größe", "two words", "f", "public", "user", "current_date"}


@pytest.mark.parametrize(
    "condition",
    [
        "note is null", "id in (1, 2) and note = 'x' or not (id > 7)", "k like 'a%'", "k NOT ILIKE '%''s'",
        "deleted_at is null", "deleted_at > '2024-01-01 00:00'", "f.id <> 3 and public.f.k is distinct from note",
        "\"two words\" = 'a' and \"Größe\" between 1 and 2.5", "lower(k) = 'a' || upper (note)", "coalesce(note, k) <> ''",
        "id::text = '7'", "id = any (case when id > 1 then id else 2 end)", "", "k ~ '^a' and k !~* 'b$'", "\"user\" = 'x'",
    ],
)  # fmt: skip
def test_the_row_alone(condition: str) -> None:
    assert what_may_change(condition, COLUMNS) == ""


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("deleted_at > now() - interval '30 days'", "now("),
        ("deleted_at > current_date", "current_date"),
        ("deleted_at > 'now'", "'now'"),
        ("deleted_at > ' Tomorrow '::timestamptz", "' Tomorrow '"),
        ("deleted_at > date 'today'", "date"),
        ("id in (select id from other)", "select"),
        ("exists (select 1 from other)", "exists("),
        ("allowed(id)", "allowed("),
        ('"allowed"(id)', '"allowed"'),
        ('"K" = 1', '"K"'),
        ("other.id = 1", "other"),
        ("k = current_user", "current_user"),
        ("k = user", "user"),
        ("k = E'a'", "E"),
        ("k = E'\\x61'", "\\"),
        ("k = 'a\\' or deleted_at < now() or k = 'b'", "\\"),
        ("deleted_at > 'today 04:00'", "'today 04:00'"),
        ("deleted_at > 'to'\n'day'", "'to'"),
        ("k = $$a$$", "$$a$$"),
        ("id = 1 -- everything", "-- everything"),
        ("id = /* */ 1", "/* */ 1"),
        ("k::mine = 'a'", "mine"),
        ("k::varchar(9) = 'a'", "varchar("),
        ("note @> '{}'", "@> '{}'"),
        ("k = 'open", "'open"),
    ],
)
def test_a_doubt(condition: str, found: str) -> None:
    assert what_may_change(condition, COLUMNS) == found
