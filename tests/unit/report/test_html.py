"""The page: hostile text stays text, nothing is loaded, numbers are those of the result."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s3gc.exceptions import ConfigurationError
from s3gc.plan.planfile import PLAN_SCHEMA
from s3gc.report.charts import bar, column, parts_of, stacked
from s3gc.report.html import render_html
from s3gc.report.prices import LIST_PRICES, Prices
from s3gc.report.summary import PREFIXES_SHOWN, Summary, summarise
from s3gc.results import ColumnCoverage, GCResult, GuardReport, Outcome

NOW = datetime(2026, 11, 23, 2, 30, tzinfo=UTC)
HOSTILE = [
    "<script>alert(1)</script>.jpg",
    "'\"><img src=x onerror=alert(1)>",
    "a\u202egpj.exe",
    "new\nline\r\x1b[31m.txt",
    "{{ 7 * 7 }}{% raw %}",
    "</style><style>*{display:none}</style>",
    "javascript:alert(1)",
    "&lt;b&gt;",
]


def plan_of(folder: Path, rows: list[dict[str, object]]) -> Path:
    path = folder / "plan.parquet"
    full = [
        {
            "etag": "e",
            "size": 1,
            "last_modified": NOW - timedelta(days=30),
            "storage_class": "STANDARD",
            "first_listed": NOW,
            "first_unreferenced": NOW,
            **row,
        }
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(full, schema=PLAN_SCHEMA), path)
    return path


def result_of(**changes: object) -> GCResult:
    values: dict[str, object] = {
        "operation_id": "01HX3K9V7QW2M4N8R5T6Y0ZABC",
        "bucket": "shop-media",
        "started_at": NOW - timedelta(seconds=60),
        "completed_at": NOW,
        "duration_seconds": 60.0,
        "total_scanned": 100,
        "candidates_found": 8,
        "verified_orphans": 8,
        **changes,
    }
    return GCResult.model_validate(values)


class _Page(HTMLParser):
    """What a browser would make of the page, as far as these tests care."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self._style = False

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def hostile_page(tmp_path: Path) -> str:
    path = plan_of(tmp_path, [{"key": f"uploads/{key}"} for key in sorted(HOSTILE)])
    result = result_of(
        outcome=Outcome.PARTIALLY_FAILED,
        late_references=1,
        late_reference_keys=[HOSTILE[0]],
        errors=[f"object {HOSTILE[1]}: failed"],
        guards=[
            GuardReport(
                guard=HOSTILE[0], subject=HOSTILE[1], tripped=True, message=HOSTILE[0], way_on=HOSTILE[1]
            )
        ],
        coverage=[
            ColumnCoverage(
                source=HOSTILE[0],
                column=HOSTILE[1],
                values=1,
                undeclared_hosts={HOSTILE[0]: 1},
                unparsed_samples=[HOSTILE[1]],
                prefix_kept={HOSTILE[0]: 3},
            )
        ],
        skipped={HOSTILE[0]: 1},
        requests={HOSTILE[1]: 1},
        phase_seconds={HOSTILE[0]: 1.0},
        verification_reason=HOSTILE[0],
        deletion=HOSTILE[1],
        mode="execute",
        deleted_count=1,
    )
    return render_html(result, summarise(result, [path], source="plan"), now=NOW)


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    page = _Page(hostile_page(tmp_path))
    assert not {tag for tag, _ in page.tags} & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "a",
        "base",
    }
    assert [tag for tag, _ in page.tags].count("style") == 1
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.words  # readable, as what it is
    assert "{{ 7 * 7 }}" in page.words


def test_nothing_can_hide_or_reverse_a_line(tmp_path: Path) -> None:
    text = hostile_page(tmp_path)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b-\u200f\x1b]", text)
    words = _Page(text).words
    assert "a\\u202egpj.exe" in words
    assert "new\\nline\\r\\u001b[31m.txt" in words


def test_the_page_loads_nothing(tmp_path: Path) -> None:
    text = hostile_page(tmp_path)
    page = _Page(text)
    for tag, attrs in page.tags:
        assert not {"src", "srcset", "data", "action", "poster"} & set(attrs), tag
        assert attrs.get("href", "data:,") == "data:,"
    assert not re.search(r"url\(|@import|https?:", text.partition("<style>")[2].partition("</style>")[0])
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_the_page_can_be_read_without_eyes(tmp_path: Path) -> None:
    page = _Page(hostile_page(tmp_path))
    tags = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"]["lang"] == "en"
    assert tags.count("h1") == 1
    assert tags.count("main") == 1
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    assert all(
        attrs.get("role") == "img" and attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg"
    )
    ids = {attrs["id"] for _, attrs in page.tags if "id" in attrs}
    labels = [attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs]
    assert labels
    assert set(labels) <= ids


def test_the_numbers_are_the_result_s(tmp_path: Path) -> None:
    rows = [{"key": f"a/{i:03d}", "size": 1024} for i in range(40)] + [{"key": "b/big", "size": 10 * 1024**3}]
    path = plan_of(tmp_path, rows)
    result = result_of(
        outcome=Outcome.REFUSED,
        total_scanned=1000,
        total_bytes=20 * 1024**3,
        candidates_found=50,
        waiting_count=9,
        young_count=100,
        verified_orphans=41,
        reclaimable_bytes=10 * 1024**3 + 40 * 1024,
        plan_digest="ab" * 32,
        guards=[
            GuardReport(
                guard="maxDeletePercent",
                tripped=True,
                value=12.44,
                limit=10,
                message="too much",
                waivable=True,
            )
        ],
        coverage=[
            ColumnCoverage(source="shop", column="users.avatar_url", values=300, resolved=30, missing=270)
        ],
    )
    words = _Page(render_html(result, summarise(result, [path], source="plan"), now=NOW)).words
    for expected in (
        "Refused by a guard",
        "Would go 41 4.1 % of the objects in scope",
        "unreferenced 41 4.1 %",
        "referenced 850 85 %",
        "too young 100 10 %",
        "waiting to be sure 9 0.9 %",
        "12.4 % at most 10 %",
        f"s3gc approve 01HX3K9V7QW2M4N8R5T6Y0ZABC {'ab' * 32}",
        "users.avatar_url",
        "270 name an object that does not exist",
        "Saves a month $0.23 $2.76 a year, estimated",
        "a/ 40.0 KiB 40",
        "b/ 10.0 GiB 1",
    ):
        assert expected in words, expected


def test_every_guard_is_explained_and_its_number_says_which_way() -> None:
    from s3gc.plan.guards import CAPS, NEVER_WAIVED
    from s3gc.report.html import _GUARDS, _guard_numbers

    waivable = {"maxReferenceDropPercent", "minResolvedPercent", "maxUnparsedPercent"}
    assert set(_GUARDS) == CAPS | NEVER_WAIVED | waivable
    for guard, value, limit, said in (
        ("maxDeletePercent", 12.0, 10.0, ("12 %", "at most 10 %")),
        ("minReferences", 0, 1, ("0", "at least 1")),
        ("minResolvedPercent", None, 10, ("–", "at least 10 %")),
        ("undeclaredColumns", 0, 0, ("none", "")),
        ("undeclaredColumns", 3, 0, ("3", "none allowed")),
        ("maxDeleteBytes", 2048, 1024, ("2.0 KiB", "at most 1.0 KiB")),
        ("sources", None, None, ("", "")),
    ):
        report = GuardReport(guard=guard, tripped=False, value=value, limit=limit)
        assert _guard_numbers(report) == said


def test_a_refusal_stands_before_everything_else() -> None:
    tripped = GuardReport(guard="minReferences", tripped=True, message="an emptied database")
    page = render_html(
        result_of(outcome=Outcome.REFUSED, guards=[tripped], total_scanned=5), Summary(), now=NOW
    )
    assert page.index("an emptied database") < page.index("What is in scope")
    assert page.count('id="guards"') == 1


def test_sizes_that_no_object_has_are_not_listed_at_the_ends(tmp_path: Path) -> None:
    path = plan_of(tmp_path, [{"key": "a", "size": 10}, {"key": "b", "size": 2 * 1024**2}])
    words = _Page(render_html(result_of(), summarise(result_of(), [path], source="plan"), now=NOW)).words
    sizes = words.partition("How large")[2].partition("What it costs")[0]
    assert "16–128 KiB" in sizes
    assert "empty" not in sizes
    assert "1 GiB" not in sizes


def test_a_plan_that_may_not_be_approved_shows_no_way_to(tmp_path: Path) -> None:
    guards = [GuardReport(guard="undeclaredColumn", tripped=True, message="x", waivable=False)]
    result = result_of(outcome=Outcome.REFUSED, plan_digest="ab" * 32, guards=guards)
    assert "s3gc approve" not in render_html(result, Summary(), now=NOW)


def test_a_cycle_that_found_nothing_has_a_page_as_well() -> None:
    result = GCResult(operation_id="01HX3K9V7QW2M4N8R5T6Y0ZABC")
    words = _Page(render_html(result, summarise(result, [], source=""), now=NOW)).words
    assert "Would go 0" in words
    assert "Particulars" in words


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("mode", ["dry_run", "audit_only", "execute"])
def test_every_outcome_of_every_mode_has_a_page(outcome: Outcome, mode: str) -> None:
    assert "<h1>" in render_html(result_of(outcome=outcome, mode=mode), Summary(), now=NOW)


def test_a_delete_marker_is_said_to_free_nothing() -> None:
    result = result_of(mode="execute", deleted_count=5, backed_up_bytes=2048, reclaimed_bytes=0)
    assert "behind delete markers" in _Page(render_html(result, Summary(), now=NOW)).words


# --- aggregates


def test_the_summary_adds_up(tmp_path: Path) -> None:
    rows = [
        {"key": f"p{i % 40}/{i:04d}", "size": i, "storage_class": ["STANDARD", "GLACIER_IR", ""][i % 3]}
        for i in range(2000)
    ]
    for number, row in enumerate(rows):
        row["last_modified"] = NOW - timedelta(days=number)
    result = result_of()
    found = summarise(result, [plan_of(tmp_path, rows)], source="plan", memory_limit_mb=64)
    total = sum(range(2000))
    assert (found.objects, found.bytes) == (2000, total)
    for bins in (found.by_prefix, found.by_age, found.by_size, found.by_class):
        assert sum(each.objects for each in bins) == 2000
        assert sum(each.bytes for each in bins) == total
    assert len(found.by_prefix) == PREFIXES_SHOWN + 1
    assert found.by_prefix[-1].label == "everything else"
    assert {each.label for each in found.by_class} == {"STANDARD", "GLACIER_IR"}
    assert (found.newest, found.oldest) == (NOW, NOW - timedelta(days=1999))
    assert [each.size for each in found.largest[:3]] == [1999, 1998, 1997]
    ages = {each.label: each.objects for each in found.by_age}
    assert (ages["under a week"], ages["1–4 weeks"], ages["over 4 years"]) == (7, 23, 539)


@pytest.mark.parametrize(
    ("keys", "labels"),
    [
        (["a", "b/c"], {"(no folder)", "b/"}),
        (["u/a/1/x", "u/a/2/x", "u/b/x"], {"u/a/1/", "u/a/2/", "u/b/"}),
        ([f"u/{i}/x" for i in range(30)] + ["v/x"], {"u/", "v/"}),
        (["/x", "//y"], {"/", "//"}),
    ],
)
def test_folders_are_shown_as_deep_as_they_fit(tmp_path: Path, keys: list[str], labels: set[str]) -> None:
    found = summarise(result_of(), [plan_of(tmp_path, [{"key": key} for key in keys])], source="plan")
    assert {each.label for each in found.by_prefix} == labels


def test_samples_are_the_same_each_time(tmp_path: Path) -> None:
    path = plan_of(tmp_path, [{"key": f"k{i:04d}"} for i in range(500)])
    one, two = (summarise(result_of(), [path], source="plan").samples for _ in range(2))
    assert one == two
    assert len({each.key for each in one}) == 12


# --- prices


def test_prices_are_a_setting() -> None:
    assert Prices().monthly("STANDARD", 1024**3) == LIST_PRICES["STANDARD"]
    assert Prices().monthly("SOMETHING_NEW", 1024**3) == LIST_PRICES["STANDARD"]
    mine = Prices.of({"S3GC_PRICES": '{"standard": 0.5, "GLACIER": 0.1}'}, ["GLACIER=0.2"])
    assert (mine.monthly("STANDARD", 1024**3), mine.monthly("GLACIER", 2 * 1024**3)) == (0.5, 0.4)
    assert mine.origin == "your prices"


@pytest.mark.parametrize("text", ["x", "[1]", '{"STANDARD": "much"}', '{"STANDARD": -1}'])
def test_prices_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="price"):
        Prices.of({"S3GC_PRICES": text})


# --- charts


def test_charts_escape_their_labels_and_keep_slivers_visible() -> None:
    drawn = str(bar(0.5, '"><script>')) + str(column(0.5, "<b>"))
    drawn += str(stacked(parts_of([("<i>", 1, "<u>"), ("all", 10**9, "1")]), '"'))
    assert not re.search("<(script|b|i|u)>", drawn)
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="10" style', drawn)]
    assert min(widths) > 0.1
    assert 'width="0.00"' in str(bar(0, "none"))
    assert 'width="0.80"' in str(bar(0.00001, "nearly none"))


def test_parts_without_anything_are_left_out() -> None:
    assert [part.label for part in parts_of([("a", 1, ""), ("b", 0, ""), ("c", 3, "")])] == ["a", "c"]
    assert parts_of([("a", 0, "")]) == []
    assert [part.colour for part in parts_of([("a", 0, ""), ("c", 3, "")])] == [
        2
    ]  # a colour stays its part's own


def test_passed_guards_are_one_row_a_kind_with_the_closest_call() -> None:
    guards = [
        GuardReport(guard="maxUnparsedPercent", subject=f"t.c{number}", tripped=False, value=number, limit=5)
        for number in range(4)
    ]
    guards += [
        GuardReport(guard="minResolvedPercent", subject=f"t.c{n}", tripped=False, value=n, limit=10)
        for n in (90, 11)
    ]
    words = _Page(render_html(result_of(guards=guards), Summary(), now=NOW)).words
    assert (
        "maxUnparsedPercent values that could not be understood 3 % at most 5 % closest of 4: t.c3" in words
    )
    assert (
        "minResolvedPercent values that name an object that exists 11 % at least 10 % closest of 2: t.c11"
        in words
    )
