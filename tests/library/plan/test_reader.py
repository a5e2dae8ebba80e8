"""Reading references: no value is lost, whatever it is made of, and a short reading is never an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.library.plan.tables import Rows, spec

from s3gc.exceptions import SourceError
from s3gc.references.reader import READ_SCHEMA, read_references, rescan, texts_of
from s3gc.references.types import PrefixReference


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


async def test_values_of_any_type_become_text_and_counts_are_of_values(tmp_path: Path) -> None:
    given = [
        "a.jpg",
        None,
        b"b.jpg",
        7,
        {"k": ["c.jpg", "\u00e9"]},
        PrefixReference("hls/"),
        b"\xffd.jpg",
        "\x00e",
    ]
    column = spec()
    source: Any = Rows("shop", [(column, given)])
    (read,) = await read_references([source], [source.preflighted()], tmp_path)
    assert read.values == 7
    rows = [row for path in read.files for row in rows_of(path)]
    assert pq.read_schema(read.files[0]).equals(READ_SCHEMA)
    first = [row for row in rows if not row["is_extra"]]
    assert [row["row"] for row in first] == list(range(7))
    assert [row["value"] for row in first] == [
        "a.jpg",
        "b.jpg",
        "7",
        '{"k": ["c.jpg", "\u00e9"]}',
        "hls/",
        "\ufffdd.jpg",
        "\x00e",
    ]
    assert [row["value"] for row in rows if row["is_prefix"]] == ["hls/"]
    extras = {row["value"] for row in rows if row["is_extra"]}
    assert {"\u00ffd.jpg", "\\xff642e6a7067"} <= extras


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        (b"plain", "plain"),
        (memoryview(b"plain"), "plain"),
        ("caf\u00e9".encode(), "caf\u00e9"),
        (b"\xe9t\xe9.jpg", "\u00e9t\u00e9.jpg"),  # Latin-1
        (b"\x0a\x0buploads/a.j\x12", "\n\nuploads/a.j\n".replace("\n\n", "\n\n", 1)),
        (b"\x01\x02uploads/a.jpg\x03", "\nuploads/a.jpg\n"),  # a serialised record
        ("k/a.jpg".encode("utf-16-le"), "k/a.jpg"),
        (bytes.fromhex("6f1c2b3a000040008000000000000000"), "6f1c2b3a-0000-4000-8000-000000000000"),
        (b"\xde\xad\xbe\xef", "deadbeef"),
        (b"\xde\xad\xbe\xef", "\\xdeadbeef"),
        ("caf\u00e9".encode().decode("ascii", "surrogateescape"), "caf\u00e9"),
        ("\ud83d\ude00.jpg", "\U0001f600.jpg"),  # a surrogate pair that was never joined
        (12.5, "12.5"),
        (("a", "b"), '["a", "b"]'),
    ],
)
def test_every_spelling_that_a_value_could_mean_is_kept(value: object, text: str) -> None:
    texts = texts_of(value)
    assert text in texts
    for item in texts:
        item.encode()  # no surrogates: Parquet could not hold them


async def test_one_snapshot_serves_all_columns_of_a_database(tmp_path: Path) -> None:
    one = [(spec("t.a"), ["1", "2"]), (spec("t.b", index=1), ["3"])]
    sources: Any = [Rows("shop", one), Rows("blog", [(spec("p.c", source="blog"), ["4"])])]
    seen: list[int] = []
    read = await read_references(
        sources, [source.preflighted() for source in sources], tmp_path, progress=seen.append
    )
    assert [source.snapshots for source in sources] == [1, 1]
    assert [(column.spec.label, column.values) for column in read] == [("t.a", 2), ("t.b", 1), ("p.c", 1)]
    assert max(seen) == 4


async def test_a_source_that_breaks_off_leaves_no_file_and_no_answer(tmp_path: Path) -> None:
    good: Any = Rows("blog", [(spec("p.c", source="blog"), ["4"] * 100)])
    bad: Any = Rows("shop", [(spec(), ["1", "2", "3", "4", SourceError("the server went away")])])
    sources = [good, bad]
    preflights = [source.preflighted() for source in sources]
    with pytest.raises(SourceError, match="went away"):
        await read_references(sources, preflights, tmp_path)
    assert not list(tmp_path.glob("references-001-*"))
    with pytest.raises(SourceError, match="went away"):
        await rescan(sources, preflights, ["x.jpg"])


async def test_a_column_without_values_is_read_and_empty(tmp_path: Path) -> None:
    source: Any = Rows("shop", [(spec(), [])])
    (read,) = await read_references([source], [source.preflighted()], tmp_path)
    assert (read.values, rows_of(read.files[0])) == (0, [])


async def test_rescan_names_the_column_and_the_value_for_each_key_that_is_referenced_now() -> None:
    column = spec("users.avatar")
    source: Any = Rows(
        "shop", [(column, ["/uploads/a.jpg", b"\xff uploads/b.jpg", PrefixReference("hls/1/")])]
    )
    hits = await rescan(
        [source], [source.preflighted()], ["uploads/a.jpg", "uploads/b.jpg", "hls/1/x.ts", "uploads/c.jpg"]
    )
    assert set(hits) == {"uploads/a.jpg", "uploads/b.jpg", "hls/1/x.ts"}
    assert hits["uploads/a.jpg"].column == column
    assert hits["uploads/a.jpg"].value == "/uploads/a.jpg"


async def test_rescan_without_any_column_refuses_to_answer() -> None:
    with pytest.raises(SourceError, match="no column"):
        await rescan([], [], ["a"])
    assert await rescan([], [], []) == {}


async def test_large_values_are_written_in_several_row_groups(tmp_path: Path) -> None:
    source: Any = Rows("shop", [(spec(), [f"{number:06d}" + "x" * 1_000_000 for number in range(20)])])
    (read,) = await read_references([source], [source.preflighted()], tmp_path)
    file = pq.ParquetFile(read.files[0])
    assert file.metadata.num_row_groups >= 2
    assert [row["value"][:6] for row in rows_of(read.files[0])] == [f"{number:06d}" for number in range(20)]
