"""The parts of the command line that need no store: shared options, exit codes, what it costs to ask for help."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from s3gc.cli.app import COMMANDS
from s3gc.cli.engine import exit_code_of
from s3gc.report.prometheus import prometheus_text
from s3gc.results import GCMetrics, Outcome

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome.SUCCEEDED, 0),
        (Outcome.AWAITING_APPROVAL, 0),
        (Outcome.REFUSED, 3),
        (Outcome.PARTIALLY_FAILED, 4),
        (Outcome.FAILED, 1),
        (Outcome.UNKNOWN, 1),
    ],
)
def test_an_outcome_has_its_exit_code(outcome: Outcome, code: int) -> None:
    assert exit_code_of(outcome) == code


def test_every_outcome_was_thought_of() -> None:
    assert len(Outcome) == 6


def test_help_loads_no_engine() -> None:
    """Help must be quick: nothing of a database, a store or a join may be imported for it."""
    program = (
        "import sys; sys.argv = ['s3gc', '--help']\n"
        "from s3gc.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'duckdb', 'pyarrow', 'aiohttp', 'aiobotocore', 'botocore', 'asyncpg', 'jinja2', 'yaml', 'moto',"
        " 'zstandard', 'aiosqlite', 's3gc.config', 's3gc.cycle', 's3gc.results'}\n"
        "print(code, sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(ROOT / "operator"), "PATH": "/usr/bin", "COLUMNS": "80"},
        check=False,
    )
    assert done.stderr.strip() == "0 []"
    assert all(name in done.stdout for name in COMMANDS)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_metrics_are_valid_for_prometheus() -> None:
    from prometheus_client.parser import text_string_to_metric_families

    moment = datetime(2026, 1, 1, tzinfo=UTC)
    metrics = GCMetrics(total_runs=3, total_deleted=5, last_run_at=moment, vault_size_bytes=2**40)
    text = prometheus_text(metrics, 'me"dia\\', "shop-media")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    sample = families["s3gc_vault_objects_deleted"].samples[0]
    assert (sample.value, sample.labels) == (5, {"policy": 'me"dia\\', "bucket": "shop-media"})
    assert families["s3gc_vault_size_bytes"].samples[0].value == 2**40
    assert families["s3gc_vault_last_cycle_timestamp_seconds"].samples[0].value == moment.timestamp()
    assert all(family.documentation for family in families.values())


def test_a_result_is_one_json_line_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    from s3gc.cli.options import Output
    from s3gc.cli.output import emit, form

    assert form(None) is Output.TABLE
    assert form(None, watched_only=True) is Output.JSON
    assert form(Output.YAML, watched_only=True) is Output.YAML
    emit({"key": "漢\nü"}, Output.JSON)
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert json.loads(text) == {"key": "漢\nü"}
    assert "漢" in text
