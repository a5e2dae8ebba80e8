"""`s3gc doctor` against real databases: what is possible, what is used, and the statement that gives more."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from tests.library.cli.conftest import PROGRAM
from tests.library.cycle.rows import COLUMN, MariaRows, PostgresRows
from tests.library.sources.helpers import as_user, pg_role
from tests.testbed.services import MariaDB, Postgres


def doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, urls: dict[str, str], *, cdc: dict[str, str] | None = None
) -> tuple[int, dict[str, Any], str]:
    """Exit code, JSON by source, and the table."""
    references = []
    for number, (name, url) in enumerate(urls.items()):
        monkeypatch.setenv(f"S3GC_SOURCE_{number}_URL", url)
        reference: dict[str, Any] = {
            "name": name,
            "database": {"urlSecretRef": {"name": "x", "key": "url"}},
            "tables": [{"table": "files", "columns": [{"name": COLUMN}]}],
        }
        if cdc is not None and name in cdc:
            reference["cdc"] = {"backend": cdc[name]}
        references.append(reference)
    policy = {
        "apiVersion": "s3gc.dev/v1",
        "kind": "BucketGC",
        "metadata": {"name": "media"},
        "spec": {
            "bucket": {"name": "shop-media"},
            "references": references,
            "mode": "Execute",
            "vault": {"s3": {"bucket": "shop-vault"}},
        },
    }
    path = tmp_path / "policy.yaml"
    path.write_text(yaml.safe_dump(policy))
    command = [sys.executable, "-c", PROGRAM, "doctor", "-f", str(path), "--output"]
    printed, shown = (
        subprocess.run([*command, how], capture_output=True, text=True, check=False, timeout=60)
        for how in ("json", "table")
    )
    assert shown.returncode == printed.returncode, printed.stderr
    return printed.returncode, {one["name"]: one for one in json.loads(printed.stdout)}, shown.stdout


async def test_postgres_says_what_to_grant_and_what_is_used(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    rows = await PostgresRows.fresh(postgres)
    reader = await pg_role(
        rows.url, "s3gc_doctor", "GRANT SELECT ON files TO {role}", attributes="NOREPLICATION"
    )
    code, found, shown = doctor(monkeypatch, tmp_path, {"shop": reader})
    assert (code, found["shop"]["used"], found["shop"]["barrier"]) == (0, "rescan", "locks")
    assert 'ALTER ROLE "s3gc_doctor" REPLICATION' in found["shop"]["next_step"]
    assert "sesame-open" not in shown
    code, found, _ = doctor(monkeypatch, tmp_path, {"shop": reader}, cdc={"shop": "postgres"})
    assert (code, found["shop"]["used"], found["shop"]["can_execute"]) == (2, None, False)
    assert "CDCError" in found["shop"]["because"]
    code, found, _ = doctor(monkeypatch, tmp_path, {"shop": rows.url})
    assert "add cdc: {backend: postgres}" in found["shop"]["next_step"]
    code, found, shown = doctor(monkeypatch, tmp_path, {"shop": rows.url}, cdc={"shop": "postgres"})
    assert (code, found["shop"]["used"], found["shop"]["next_step"]) == (0, "cdc", "")
    assert "ready" in shown


async def test_mariadb_says_so_too_and_one_broken_source_hides_no_other(
    mariadb: MariaDB, postgres: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    rows = await MariaRows.fresh(mariadb)
    reader = await rows.user("doctored", "grant select on {database}.* to {user}")
    broken = as_user((await PostgresRows.fresh(postgres)).url, "nobody_at_all", "wrong")
    code, found, shown = doctor(monkeypatch, tmp_path, {"shop": reader, "billing": broken, "whole": rows.url})
    assert code == 2
    assert "GRANT PROCESS ON *.*" in found["shop"]["barrier_missing"]
    assert not found["shop"]["levels"][0]["possible"]
    assert "nobody_at_all" in found["billing"]["problem"]
    assert "add cdc: {backend: mysql}" in found["whole"]["next_step"]
    assert "not ready" in shown
    code, found, _ = doctor(monkeypatch, tmp_path, {"whole": rows.url}, cdc={"whole": "mysql"})
    assert (code, found["whole"]["used"]) == (0, "cdc")
