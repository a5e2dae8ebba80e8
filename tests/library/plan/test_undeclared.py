"""The column that somebody added last week: its sampled values against the plan. And one key against every column."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.library.plan.tables import RULES, Rows, config, spec

from s3gc.exceptions import SourceError
from s3gc.plan.explain import NamedBy, references_to
from s3gc.plan.undeclared import find_undeclared
from s3gc.references.types import PrefixReference


def planned(work: Path, *keys: str) -> Path:
    path = work / "plan.parquet"
    pq.write_table(pa.table({"key": pa.array(keys, pa.string())}), path)
    return path


def source_with(hidden: dict[str, list[object]], **rules: Any) -> Rows:
    source = Rows("shop", [(spec(rules=replace(RULES, **rules)), [])])
    source.hidden = dict(hidden)
    return source


async def found(work: Path, plan: Path, *sources: Any, **more: Any) -> dict[str, set[str]]:
    hits = await find_undeclared(
        sources, [source.preflighted() for source in sources], plan, work, config=config(), **more
    )
    named: dict[str, set[str]] = {}
    for hit in hits:
        named.setdefault(f"{hit.source}: {hit.column}", set()).add(hit.key)
    return named


@pytest.mark.parametrize("chunk_keys", [1, 2, 250_000])
async def test_every_undeclared_column_that_names_a_planned_object_is_found(
    tmp_path: Path, chunk_keys: int
) -> None:
    source = source_with(
        {
            "public.audit.payload": ["nothing", '{"old": "\\/u\\/a.jpg"}', None],
            "public.notes.body": [b"see <img src='/u/b.jpg'>", 7],
            "public.users.name": ["Ada", "u", "a.jpg "],
        }
    )
    plan = planned(tmp_path, "u/a.jpg", "u/b.jpg", "u/c.jpg")
    assert await found(tmp_path, plan, source, chunk_keys=chunk_keys) == {
        "shop: public.audit.payload": {"u/a.jpg"},
        "shop: public.notes.body": {"u/b.jpg"},
    }


async def test_what_is_derived_from_a_named_key_counts_as_named(tmp_path: Path) -> None:
    source = source_with(
        {"t.c": ["u/a.jpg"], "t.d": ["b.jpg"]}, derivatives=("{stem}_thumb{ext}",), key_prefixes=("store/",)
    )
    plan = planned(tmp_path, "u/a_thumb.jpg", "store/b.jpg")
    assert await found(tmp_path, plan, source) == {
        "shop: t.c": {"u/a_thumb.jpg"},
        "shop: t.d": {"store/b.jpg"},
    }


async def test_only_a_sample_is_read(tmp_path: Path) -> None:
    source = source_with({"t.c": ["x"] * 5 + ["u/a.jpg"]})
    plan = planned(tmp_path, "u/a.jpg")
    assert await found(tmp_path, plan, source, limit=5) == {}
    assert await found(tmp_path, plan, source, limit=6) == {"shop: t.c": {"u/a.jpg"}}


async def test_an_empty_plan_asks_nothing(tmp_path: Path) -> None:
    class Silent(Rows):
        async def undeclared(self, limit: int = 1000) -> Any:
            raise SourceError("was asked")
            yield

    source = Silent("shop", [(spec(), [])])
    assert await found(tmp_path, planned(tmp_path), source) == {}
    with pytest.raises(SourceError, match="was asked"):
        await found(tmp_path, planned(tmp_path, "a"), source)


async def test_one_key_is_looked_for_in_every_column() -> None:
    source: Any = Rows(
        "shop",
        [
            (spec("users.avatar"), ["x", "/u/a.jpg", "u/a.jpg"]),
            (spec("videos.folder", index=1), [PrefixReference("u/")]),
            (spec("t.other", index=2), ["u/b.jpg"]),
        ],
    )
    assert await references_to("u/a.jpg", [source], [source.preflighted()]) == [
        NamedBy("shop", "users.avatar", "/u/a.jpg"),
        NamedBy("shop", "videos.folder", "u/", "u/"),
    ]
    assert source.snapshots == 1
