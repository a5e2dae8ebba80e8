"""The join by example: what each kind of reference keeps, what is counted, what the columns look like afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.library.plan.tables import (
    BUCKET,
    DAY,
    RULES,
    T0,
    Thing,
    columns,
    config,
    holds,
    keys_of,
    listing,
    spec,
)

from s3gc.config import ReferenceFormat
from s3gc.plan.join import Joined, find_candidates
from s3gc.references.reader import ReadColumn
from s3gc.references.types import ColumnSpec, PrefixReference, ReferenceRules

KEY, AUTO, PREFIX = ReferenceFormat.KEY, ReferenceFormat.AUTO, ReferenceFormat.PREFIX


async def joined(
    work: Path,
    things: Sequence[Thing | str],
    *given: tuple[ColumnSpec, Sequence[object]],
    chunk_keys: int = 250_000,
    sample_values: int = 50_000,
    state: Path | None = None,
    held: Path | None = None,
    left_out: dict[str, str] | None = None,
    **policy: object,
) -> Joined:
    inventory = listing(work, things, left_out=left_out)
    read: list[ReadColumn] = await columns(work, *given) if given else []
    return await find_candidates(
        inventory,
        read,
        config=config(**policy),
        work=work / "join",
        state=state,
        holds=held,
        chunk_keys=chunk_keys,
        sample_values=sample_values,
    )


async def left_over(
    work: Path, things: Sequence[Thing | str], *given: tuple[ColumnSpec, Sequence[object]], **more: object
) -> list[str]:
    found = await joined(work, things, *given, **more)  # type: ignore[arg-type]  # passed through
    return keys_of(found.candidates)


@pytest.mark.parametrize("column_format", [KEY, AUTO])
async def test_a_key_is_itself_only_whatever_it_looks_like(
    tmp_path: Path, column_format: ReferenceFormat
) -> None:
    pairs = [
        ("case.jpg", "Case.jpg"),
        ("trail.jpg", "trail.jpg "),
        ("line.jpg", "line.jpg\n"),
        ("bell.jpg", "bell\x07.jpg"),
        ("x/\U0001f600.jpg", "x/\U0001f601.jpg"),
        ("quote'.jpg", 'quote".jpg'),
        ("del\x7f.jpg", "del.jpg"),
    ]
    named = [mine for mine, _ in pairs]
    others = [other for _, other in pairs]
    found = await left_over(tmp_path, named + others, (spec(fmt=column_format), named))
    assert found == sorted(others, key=str.encode)


async def test_unicode_twins_are_two_objects_for_an_exact_key_and_both_kept_when_in_doubt(
    tmp_path: Path,
) -> None:
    twins = ["caf\u00e9.jpg", "cafe\u0301.jpg"]
    exact = await left_over(tmp_path / "key", [*twins, "z"], (spec(fmt=KEY), [twins[0]]))
    assert set(exact) <= {twins[1], "z"}
    assert twins[0] not in exact
    assert await left_over(tmp_path / "auto", [*twins, "z"], (spec(), [twins[0]])) == ["z"]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("uploads/a.jpg", "uploads/a.jpg"),
        ("/uploads/a.jpg", "uploads/a.jpg"),
        (f"s3://{BUCKET}/k/a b.jpg", "k/a b.jpg"),
        (f"https://{BUCKET}.s3.eu-west-1.amazonaws.com/k/a%20b.jpg?X-Amz-Signature=1", "k/a b.jpg"),
        (f"https://s3.amazonaws.com/{BUCKET}/k/a.jpg", "k/a.jpg"),
        (f"http://minio:9000/{BUCKET}/k/a.jpg", "k/a.jpg"),
        (f"https://{BUCKET}.minio/k/a.jpg#t=1", "k/a.jpg"),
        ("https://cdn.example.com/img/p/a.jpg?v=3", "media/p/a.jpg"),
        ("HTTP://CDN.EXAMPLE.COM/img/p/a.jpg", "media/p/a.jpg"),
        ("/files/p/a.jpg", "p/a.jpg"),
        ("https://old.example.net/x/y/a.jpg", "y/a.jpg"),
        ("avatars/u1.png", "store/avatars/u1.png"),
        ('{"src": "uploads\\/a.jpg", "w": 3}', "uploads/a.jpg"),
        ('<img src="/files/p/a.jpg">', "p/a.jpg"),
        ("k/a.jpg,k/b.jpg", "k/b.jpg"),
        ("a+b.jpg", "a b.jpg"),
        ("k/cafe\u0301.jpg", "k/caf\u00e9.jpg"),
        ('"k/caf\\u00e9.jpg"', "k/caf\u00e9.jpg"),
        ("https://i.example.com/x?url=https%3A%2F%2F" + BUCKET + ".s3.amazonaws.com%2Fk%2Fa.jpg", "k/a.jpg"),
        (b"\xff\xfe uploads/a.jpg", "uploads/a.jpg"),
    ],
)
async def test_a_value_keeps_what_it_could_mean(tmp_path: Path, value: object, key: str) -> None:
    rules = replace(
        RULES,
        endpoint_hosts=frozenset({"minio"}),
        base_urls=(("https://cdn.example.com/img/", "media/"), ("/files/", "")),
        key_prefixes=("store/",),
    )
    assert await left_over(tmp_path, [key, "orphan"], (spec(rules=rules), [value])) == ["orphan"]


async def test_a_reference_into_another_bucket_keeps_nothing(tmp_path: Path) -> None:
    values = [
        "s3://other/k/a.jpg",
        "https://other.s3.amazonaws.com/k/a.jpg",
        "https://www.gravatar.com/k/a.jpg",
    ]
    rules = replace(RULES, foreign_hosts=frozenset({"www.gravatar.com"}))
    found = await joined(tmp_path, ["k/a.jpg"], (spec(rules=rules), values))
    assert keys_of(found.candidates) == ["k/a.jpg"]
    (column,) = found.coverage
    assert (column.other_bucket, column.foreign, column.resolved, column.references) == (2, 1, 0, 0)


@pytest.mark.parametrize("chunk_keys", [1, 3, 250_000])
async def test_chunks_of_any_size_give_the_same_answer(tmp_path: Path, chunk_keys: int) -> None:
    things = [f"k/{number}.jpg" for number in range(20)]
    values = [f'"k\\u002f{number}.jpg"' for number in range(0, 20, 2)]
    found = await left_over(tmp_path, things, (spec(), values), chunk_keys=chunk_keys)
    assert found == sorted(f"k/{number}.jpg" for number in range(1, 20, 2))


async def test_prefixes_keep_what_starts_with_them_and_coverage_counts_it(tmp_path: Path) -> None:
    things = ["hls/1/a.ts", "hls/1/b.ts", "hls/10/c.ts", "hls/1", "t/7-x", "t/8-x", "zarr/z/.zattrs", "H/ls"]
    found = await joined(
        tmp_path,
        things,
        (spec("videos.folder"), ["hls/1/"]),
        (spec("t.template", index=1, kind="template"), [PrefixReference("t/7"), PrefixReference("")]),
        (spec("z.path", index=2, fmt=PREFIX), ["zarr/z"]),
    )
    # "hls/1" stays as well: a folder written with its slash may be a file of that name.
    assert keys_of(found.candidates) == ["H/ls", "hls/10/c.ts", "t/8-x"]
    assert found.coverage[0].prefix_kept == {"hls/1/": 2}
    assert found.coverage[1].prefix_kept == {"t/7": 1}
    assert [column.resolved for column in found.coverage] == [1, 1, 1]


async def test_the_empty_prefix_keeps_nothing(tmp_path: Path) -> None:
    values: list[object] = [
        "/",
        "//",
        " / ",
        PrefixReference(""),
        f"https://{BUCKET}.s3.amazonaws.com/",
        f"s3://{BUCKET}/",
    ]
    things = ["a", "b/c"]
    assert await left_over(tmp_path / "auto", things, (spec(), values)) == things
    assert await left_over(tmp_path / "prefix", things, (spec(fmt=PREFIX), values)) == things


@pytest.mark.parametrize("column_format", [KEY, AUTO])
async def test_derivatives_stay_with_their_parent_even_when_that_is_missing(
    tmp_path: Path, column_format: ReferenceFormat
) -> None:
    rules = replace(RULES, derivatives=("{stem}_thumb{ext}", "resized/{key}", "{dir}small/{name}"))
    things = [
        "u/a.jpg",
        "u/a_thumb.jpg",
        "resized/u/a.jpg",
        "u/small/a.jpg",
        "u/gone_thumb.jpg",
        "u/b_thumb.jpg",
    ]
    values = ["u/a.jpg", "/u/gone.jpg"]
    found = await joined(tmp_path, things, (spec(fmt=column_format, rules=rules), values))
    assert keys_of(found.candidates) == ["u/b_thumb.jpg"]
    # A thumbnail does not show that the reference itself names an object.
    assert (found.coverage[0].resolved, found.coverage[0].missing) == (1, 1)


async def test_derivatives_of_what_a_prefix_keeps_are_kept(tmp_path: Path) -> None:
    rules = replace(RULES, derivatives=("resized/{key}",))
    things = ["hls/1/a.ts", "resized/hls/1/a.ts", "resized/hls/2/a.ts"]
    assert await left_over(tmp_path, things, (spec(rules=rules), ["hls/1/"])) == ["resized/hls/2/a.ts"]


async def test_nothing_is_a_candidate_without_a_source(tmp_path: Path) -> None:
    found = await joined(tmp_path, ["a", Thing("young", age=DAY)])
    assert keys_of(found.candidates) == []
    assert (found.counts.unverifiable, found.counts.young, found.coverage) == (1, 1, ())


async def test_a_column_without_values_leaves_candidates_and_says_so(tmp_path: Path) -> None:
    found = await joined(tmp_path, ["a"], (spec(), []))
    assert keys_of(found.candidates) == ["a"]
    assert (found.counts.unverifiable, found.coverage[0].values) == (0, 0)


async def test_an_empty_bucket_is_a_plan_of_nothing(tmp_path: Path) -> None:
    inventory = replace(listing(tmp_path, []), files=())
    read = await columns(tmp_path, (spec(), ["a", "b"]))
    found = await find_candidates(inventory, read, config=config(), work=tmp_path / "join")
    assert (found.counts.scanned, found.counts.candidates, found.missing.objects) == (0, 0, 2)


async def test_everything_is_counted_once(tmp_path: Path) -> None:
    found = await joined(
        tmp_path,
        [
            "used",
            Thing("orphan", size=7),
            Thing("held", size=100),
            Thing("young", age=DAY),
            "legal/x",
            "bad//key",
            Thing("video", etag="ab-3"),
        ],
        (spec(fmt=KEY), ["used"]),
        exclude_prefixes=("legal/",),
        held=holds(tmp_path / "holds", ("held", T0 + DAY), ("orphan", T0), ("used", T0 + DAY)),
        unreferenced_days=1,
    )
    counts = found.counts
    assert (counts.scanned, counts.judged, counts.young) == (7, 3, 2)
    assert (counts.excluded, counts.not_actionable, counts.held) == (1, 1, 1)
    assert (counts.candidates, counts.candidate_bytes, counts.waiting) == (1, 7, 1)
    assert keys_of(found.state) == ["orphan", "video"]


async def test_what_waited_in_an_earlier_cycle_is_ripe_in_a_later_one(tmp_path: Path) -> None:
    first = await joined(tmp_path / "1", ["orphan"], (spec(fmt=KEY), ["x"]), unreferenced_days=1)
    assert first.counts.waiting == 1
    inventory = replace(listing(tmp_path / "2", ["orphan", "later"]), t0=T0 + DAY)
    read = await columns(tmp_path / "2", (spec(fmt=KEY), ["x"]))
    second = await find_candidates(
        inventory, read, config=config(unreferenced_days=1), work=tmp_path / "2" / "join", state=first.state
    )
    rows = {row["key"]: row for row in pq.read_table(second.candidates).to_pylist()}
    assert (second.counts.candidates, second.counts.waiting) == (2, 1)
    assert rows["orphan"]["first_unreferenced"] == T0
    assert rows["later"]["first_unreferenced"] == T0 + DAY


async def test_coverage_tells_resolved_missing_outside_foreign_ignored_and_unparsed_apart(
    tmp_path: Path,
) -> None:
    rules = replace(RULES, foreign_hosts=frozenset({"www.gravatar.com"}))
    values = [
        "u/a.jpg",
        "https://cdn.nowhere.example/x/u/young.jpg",  # resolves to an object too young to be judged
        "u/missing.jpg",
        "v/elsewhere.jpg",  # outside the scope
        "vault/pack.bin",
        "https://fonts.example/u/f.woff",  # an undeclared host without a single hit
        "https://www.gravatar.com/avatar/1",
        "s3://other/u/a.jpg",
        "data:image/png;base64,AAAA",
    ]
    found = await joined(
        tmp_path,
        ["u/a.jpg", Thing("u/young.jpg", age=DAY)],
        (spec(rules=rules), values),
        prefixes=("u/", "vault/"),
        left_out={"vault/": "holds a vault"},
    )
    (column,) = found.coverage
    assert (column.values, column.resolved, column.missing) == (9, 2, 1)
    assert (column.outside, column.foreign, column.other_bucket, column.ignored) == (2, 1, 1, 1)
    assert column.undeclared_hosts == {"cdn.nowhere.example": 1, "fonts.example": 1}
    assert column.missing_samples == ["u/missing.jpg"]
    assert (found.missing.objects, found.missing.approximate, column.approximate) == (1, False, False)
    assert column.references == 6  # whatever names a key: also outside, also elsewhere


async def test_what_only_the_full_rules_understand_counts_as_resolved(tmp_path: Path) -> None:
    (column,) = (await joined(tmp_path, ["k/caf\u00e9.jpg"], (spec(), ['"k\\u002fcaf\\u00e9.jpg"']))).coverage
    assert (column.resolved, column.missing) == (1, 0)


async def test_a_long_rest_is_sampled_extrapolated_and_says_so(tmp_path: Path) -> None:
    values = [f"u/{number} (1).jpg" for number in range(4000)]
    found = await joined(tmp_path, values[:1000], (spec(), values), sample_values=500)
    (column,) = found.coverage
    assert column.approximate
    assert found.missing.approximate
    assert (column.resolved, column.missing) == (1000, 3000)


async def test_plain_values_are_counted_exactly_however_many_they_are(tmp_path: Path) -> None:
    values = [f"u/{number}.jpg" for number in range(4000)]
    found = await joined(tmp_path, values[:1000], (spec(), values), sample_values=500)
    (column,) = found.coverage
    assert (column.resolved, column.missing, column.approximate) == (1000, 3000, False)
    assert len(column.missing_samples) == 5


async def test_a_value_of_several_spellings_is_one_value(tmp_path: Path) -> None:
    (column,) = (await joined(tmp_path, ["\u00ffa"], (spec(), [b"\xffa", b"\xfe\xff\x00"]))).coverage
    assert (column.values, column.resolved) == (2, 1)
    assert column.resolved + column.missing + column.unparsed + column.ignored == 2


async def test_secrets_of_presigned_urls_do_not_reach_the_report(tmp_path: Path) -> None:
    url = f"https://{BUCKET}.s3.amazonaws.com/gone.jpg?X-Amz-Signature=abc123&X-Amz-Credential=AKIA"
    found = await joined(tmp_path, ["a"], (spec(), [url]))
    (sample,) = found.missing.samples
    assert "gone.jpg" in sample
    assert "abc123" not in sample
    assert "AKIA" not in sample


async def test_cancelling_interrupts_the_work_and_waits_for_it(tmp_path: Path) -> None:
    things = [f"k/{number}.jpg" for number in range(3000)]
    inventory = listing(tmp_path, things)
    read = await columns(tmp_path, (spec(), [f'"k\\u002f{number}.gone"' for number in range(3000)]))
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    task = asyncio.create_task(
        find_candidates(
            inventory,
            read,
            config=config(),
            work=tmp_path / "join",
            chunk_keys=1,
            progress=lambda _: loop.call_soon_threadsafe(begun.set),
        )
    )
    await asyncio.wait_for(begun.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    assert not list((tmp_path / "join").glob("spill-*"))


def test_rules_with_awkward_constants_are_still_sql(tmp_path: Path) -> None:
    rules = ReferenceRules(
        bucket=BUCKET,
        base_urls=(("it's/", "o'k/"), ("//h:1/'", "")),
        key_prefixes=("a'b/",),
        derivatives=("{key}'",),
    )
    found = asyncio.run(
        left_over(tmp_path, ["o'k/x", "a'b/y", "y'", "z"], (spec(rules=rules), ["it's/x", "y"]))
    )
    assert found == ["z"]
