"""`s3gc demo`: the story that a newcomer sees first comes out as told, from the files that it leaves."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from s3gc.demo.shop import CDN, make_shop
from s3gc.results import GCResult, Outcome

ROOT = Path(__file__).parents[2]
ORPHANED = {"replaced", "deleted", "abandoned", "trial"}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from s3gc.cli import main; main()", *words],
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT / "operator"),
            "COLUMNS": "80",
            "LANG": "C.UTF-8",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@dataclass(frozen=True)
class Played:
    home: Path
    out: str
    err: str
    story: dict[str, Any]

    @property
    def folder(self) -> Path:
        return self.home / "s3gc-demo"

    def result(self, operation: str) -> GCResult:
        path = self.folder / "vault" / "operations" / operation / "result.json"
        return GCResult.model_validate_json(path.read_bytes())


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The demo, played once in an empty home without any configuration."""
    home = tmp_path_factory.mktemp("demo")
    done = run(home, "demo")
    assert done.returncode == 0, done.stdout + done.stderr
    return Played(home, done.stdout, done.stderr, json.loads((home / "s3gc-demo" / "story.json").read_text()))


def test_the_story_comes_out(played: Played) -> None:
    assert played.story["problems"] == []
    assert "✗" not in played.out
    assert played.out.count("✓") == 5
    assert played.err == ""
    assert f"meanwhile in the shop: user {int(played.story['late_key'].split('/')[1])} takes" in played.out


def test_the_dry_run_finds_exactly_the_orphans(played: Played) -> None:
    shop = make_shop()
    result = played.result(played.story["dry_run"])
    plan = played.folder / "vault" / "operations" / result.operation_id / "plan.parquet"
    planned = set(pq.read_table(plan).column("key").to_pylist())
    assert planned == {each.key for each in shop.objects if each.fate in ORPHANED}
    assert result.outcome is Outcome.SUCCEEDED
    assert result.total_scanned == len(shop.objects) == played.story["objects"]
    assert (result.young_count, result.excluded_count) == (shop.fates["young"], shop.fates["excluded"])
    assert result.missing_objects == shop.missing
    assert played.story["orphans_by_cause"] == {
        fate: number for fate, number in shop.fates.items() if fate in ORPHANED
    }


def test_the_row_that_came_back_kept_its_object(played: Played) -> None:
    result = played.result(played.story["execute"])
    late = played.story["late_key"]
    assert result.outcome is Outcome.PARTIALLY_FAILED
    assert late in result.late_reference_keys
    database = sqlite3.connect(f"file:{played.folder / 'shop.db'}?mode=ro", uri=True)
    assert database.execute(
        "SELECT count(*) FROM users WHERE avatar_url = ?", (f"{CDN}/{late}",)
    ).fetchone() == (1,)
    database.close()
    assert played.story["late_key_is_back"]


def test_everything_came_back_byte_for_byte(played: Played) -> None:
    result = played.result(played.story["execute"])
    assert result.deleted_count == result.backed_up_count == sum(played.story["orphans_by_cause"].values())
    assert played.story["restored"] == result.deleted_count - result.late_references
    assert played.story["identical_after_restore"]
    assert played.story["left_over"] == 0


def test_the_report_is_there_to_look_at(played: Played) -> None:
    page = Path(played.story["report"])
    assert page == played.folder / "report.html"
    text = page.read_text()
    assert played.story["execute"] in text
    assert "Referenced during the sweep" in text
    assert "http://" not in text.replace(played.story["late_key"], "")
    assert (played.folder / "report-dry-run.html").read_text().count("Would go")


def test_the_vault_it_leaves_is_whole(played: Played) -> None:
    verified = run(played.home, "vault", "verify", "--vault", "./s3gc-demo/vault", "--output", "json")
    assert verified.returncode == 0, verified.stderr
    report = json.loads(verified.stdout)
    assert report["whole"] is True
    assert report["objects"] == played.story["deleted"]
    listed = run(played.home, "operations", "--vault", "./s3gc-demo/vault", "--output", "json")
    found = {each["operation_id"] for each in json.loads(listed.stdout)}
    assert {played.story["dry_run"], played.story["execute"]} <= found


def test_it_fits_in_eighty_columns_and_names_paths_as_a_person_would(played: Played) -> None:
    long = [line for line in played.out.splitlines() if len(line) > 80 and str(played.folder) not in line]
    assert long == []
    assert "./s3gc-demo/report.html" in played.out


def test_a_folder_that_is_not_a_demo_s_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("three years of work")
    done = run(tmp_path, "demo", "--dir", "precious")
    assert done.returncode == 2
    assert "not a demo's" in done.stderr
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "three years of work"
