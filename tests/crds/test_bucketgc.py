"""What the API server takes as a BucketGC, what it refuses, and with which sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from s3gc.exceptions import ConfigurationError
from s3gc.policy import parse_manifest, to_config
from tests.crds.conftest import REFERENCE, SMALLEST, Server, changed

EXAMPLE = Path(__file__).parents[2] / "examples" / "policy.yaml"
S3 = {"s3": {"bucket": "shop-vault"}}
PURGING = {**SMALLEST["spec"], "versions": "Purge"}

ACCEPTED: list[tuple[str, object]] = [
    ("", None),
    ("spec.bucket.endpointURL", "http://127.0.0.1:9000"),
    ("spec.bucket.prefixes", ["uploads/", ""]),
    ("spec.bucket.excludePrefixes", [f"{n}/" for n in range(1024)]),
    ("spec.bucket.baseURLs", [{"url": "https://cdn.shop.example/"}]),
    ("spec.references", [REFERENCE]),
    ("spec.references", [REFERENCE, {**REFERENCE, "name": "billing"}]),
    ("spec.references", [{**REFERENCE, "tables": [], "queries": [{"name": "a", "sql": "select 1"}]}]),
    (
        "spec.references",
        [{**REFERENCE, "tables": [{"table": "t", "columns": [{"template": "{id}.jpg"}]}]}],
    ),
    ("spec.mode", "AuditOnly"),
    ("spec.retentionDays", 0.5),
    ("spec.unreferencedDays", 0),
    ("spec.limits", {"maxDeletePercent": 100, "maxDeleteObjects": 5000}),
    ("spec.vault", S3),
    ("spec.vault", {**S3, "retentionDays": 30, "compressionLevel": 19}),
    ("spec", PURGING),
    ("spec", {**PURGING, "vault": {**S3, "retentionDays": 1}}),
    ("spec.schedule", "30 2 * * *"),
    ("spec.schedule", "02:30"),
    ("spec.timeZone", "Europe/Berlin"),
    ("spec.startingDeadlineSeconds", 10),
    ("spec.successfulJobsHistoryLimit", 0),
    ("spec.job.tolerations", [{"key": "gc", "operator": "Exists"}]),
    ("spec.job.affinity", {"nodeAffinity": {"anything": {"goes": [1]}}}),
    ("spec.job.resources", {"limits": {"memory": "2Gi"}}),
    ("spec.job.env", [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
    ("spec.job.podLabels", {"team": "shop"}),
    ("spec.engine.requestsPerSecond", 0.5),
    ("metadata.name", "a" * 40),
]

REFUSED: list[tuple[str, object, str]] = [
    ("spec.bucket", None, "spec.bucket: Required value"),
    ("spec.bucket.name", None, "spec.bucket.name: Required value"),
    ("spec.bucket.name", "Shop_Media", "spec.bucket.name in body should match"),
    ("spec.bucket.name", "ab", "spec.bucket.name in body should be at least 3 chars long"),
    ("spec.bucket.nam", "x", 'unknown field "spec.bucket.nam"'),
    ("spec.bucket.endpointURL", "minio:9000", "endpointURL is http://host:port or https://host"),
    ("spec.bucket.prefixes", ["/uploads"], "keys in a bucket do not start with '/'"),
    ("spec.bucket.prefixes", ["x"] * 257, "must have at most 256 items"),
    ("spec.bucket.prefixes", ["x" * 1025], "spec.bucket.prefixes[0]: Too long"),
    ("spec.bucket.excludePrefixes", [""], "should be at least 1 chars long"),
    ("spec.references", [REFERENCE, REFERENCE], "Duplicate value"),
    ("spec.references", [{"name": "shop"}], "spec.references[0].database: Required value"),
    ("spec.references", [{**REFERENCE, "tables": []}], "references nothing: give tables or queries"),
    (
        "spec.references",
        [{**REFERENCE, "tables": [{"table": "t", "columns": []}]}],
        "should have at least 1 items",
    ),
    (
        "spec.references",
        [{**REFERENCE, "tables": [{"table": "t", "columns": [{}]}]}],
        "give exactly one of name (a column) and template",
    ),
    (
        "spec.references",
        [{**REFERENCE, "tables": [{"table": "t", "columns": [{"name": "a", "template": "{b}"}]}]}],
        "give exactly one of name (a column) and template",
    ),
    (
        "spec.references",
        [{**REFERENCE, "tables": [{"table": "t", "columns": [{"name": "a", "format": "xml"}]}]}],
        'Unsupported value: "xml"',
    ),
    ("spec.references", [{**REFERENCE, "cdc": {"backend": "oracle"}}], 'Unsupported value: "oracle"'),
    ("spec.mode", "Delete", 'Unsupported value: "Delete"'),
    ("spec.retentionDays", -1, "should be greater than or equal to 0"),
    ("spec.retentionDays", "seven", "must be of type number"),
    ("spec.approval", "Maybe", 'Unsupported value: "Maybe"'),
    ("spec.limits.maxDeletePercent", 101, "should be less than or equal to 100"),
    ("spec.limits.maxPlanAgeHours", 0, "should be greater than 0"),
    ("spec.versions", "Delete", 'Unsupported value: "Delete"'),
    ("spec.deletion.condition", "Never", 'Unsupported value: "Never"'),
    ("spec.vault", None, "spec.vault: Required value"),
    ("spec.vault", {}, "give exactly one of s3 and persistentVolumeClaim"),
    ("spec.vault", {**S3, "persistentVolumeClaim": {"claimName": "v"}}, "give exactly one of s3"),
    ("spec.vault", {**S3, "compressionLevel": 20}, "should be less than or equal to 19"),
    ("spec.vault", {"s3": {"bucket": "b"}}, "should be at least 3 chars long"),
    ("spec", {**PURGING, "vault": {**S3, "retentionDays": 0.5}}, "vault.retentionDays must be at least 1"),
    ("spec.schedule", "TZ=Europe/Berlin 30 2 * * *", "write the time zone into timeZone"),
    ("spec.schedule", "", "should be at least 1 chars long"),
    ("spec.startingDeadlineSeconds", 9, "should be greater than or equal to 10"),
    ("spec.failedJobsHistoryLimit", 101, "should be less than or equal to 100"),
    ("spec.suspend", "yes", "must be of type boolean"),
    ("spec.successfulJobsHistoryLimit", "3", "must be of type integer"),
    ("spec.job.activeDeadlineSeconds", 599, "should be greater than or equal to 600"),
    ("spec.job.podLabels", {"team": "x" * 64}, "spec.job.podLabels.team: Too long"),
    ("spec.engine.concurrency", 0, "should be greater than or equal to 1"),
]

#: A name is no part of a policy's meaning; a policy that deletes and reads nothing is refused when it runs.
REFUSED_THERE_ONLY: list[tuple[str, object, str]] = [
    ("spec.mode", "Execute", "mode Execute needs references"),
    ("metadata.name", "a" * 41, "the name is longer than 40 characters"),
]

CHANGES_REFUSED: list[tuple[str, object, str]] = [
    ("spec.bucket.name", "other-media", "the bucket's name cannot be changed"),
    ("spec.bucket.endpointURL", None, "the bucket's endpointURL cannot be changed"),
    ("spec.bucket.endpointURL", "https://other:9000", "the bucket's endpointURL cannot be changed"),
]
CHANGES_ACCEPTED: list[tuple[str, object]] = [
    ("spec.bucket.prefixes", ["media/"]),
    ("spec.bucket.region", "eu-central-1"),
    ("spec.mode", "DryRun"),
    ("spec.vault", S3),
    ("spec.suspend", True),
]


def named(case: object) -> str | None:
    return case if isinstance(case, str) else None


@pytest.mark.parametrize(("path", "value"), ACCEPTED, ids=named)
def test_accepted(server: Server, path: str, value: object) -> None:
    manifest = changed(SMALLEST, path, value)
    server.create(manifest)
    parse_manifest(manifest)


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED, ids=named)
def test_refused_by_the_api_server_and_by_the_command_line(
    server: Server, path: str, value: object, sentence: str
) -> None:
    manifest = changed(SMALLEST, path, value)
    assert sentence in server.refusal(manifest)
    with pytest.raises(ConfigurationError):
        to_config(parse_manifest(manifest), None)


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED_THERE_ONLY, ids=named)
def test_refused_by_the_api_server(server: Server, path: str, value: object, sentence: str) -> None:
    assert sentence in server.refusal(changed(SMALLEST, path, value))


@pytest.fixture(scope="module")
def stored(server: Server) -> dict[str, Any]:
    manifest = changed(SMALLEST, "metadata.name", "stored")
    manifest["spec"]["bucket"]["endpointURL"] = "https://minio.storage:9000"
    server.create(manifest, keep=True)
    return manifest


@pytest.mark.parametrize(("path", "value", "sentence"), CHANGES_REFUSED, ids=named)
def test_changes_that_are_refused(
    server: Server, stored: dict[str, Any], path: str, value: object, sentence: str
) -> None:
    assert sentence in server.refusal(changed(stored, path, value), replacing=True)


@pytest.mark.parametrize(("path", "value"), CHANGES_ACCEPTED, ids=named)
def test_changes_that_are_accepted(server: Server, stored: dict[str, Any], path: str, value: object) -> None:
    server.replace(changed(stored, path, value))


def test_an_endpoint_cannot_be_added_later(server: Server) -> None:
    manifest = changed(SMALLEST, "metadata.name", "on-aws")
    server.create(manifest, keep=True)
    moved = changed(manifest, "spec.bucket.endpointURL", "https://minio.storage:9000")
    assert "the bucket's endpointURL cannot be changed" in server.refusal(moved, replacing=True)


def test_the_example_is_accepted_and_means_the_same_after_the_way_through_the_api_server(
    server: Server,
) -> None:
    document = yaml.safe_load(EXAMPLE.read_text())
    del document["metadata"]["namespace"]
    answer = server.create(document)
    there = parse_manifest({name: answer[name] for name in ("apiVersion", "kind", "metadata", "spec")})
    here = parse_manifest(document)
    assert there.spec == here.spec


def test_defaults_are_shown_except_inside_lists(server: Server) -> None:
    """What the API server adds to a list would be a difference for ever to a tool that compares lists whole."""
    spec = server.create(changed(SMALLEST, "spec.references", [REFERENCE]))["spec"]
    assert spec["mode"] == "DryRun"
    assert spec["retentionDays"] == 7
    assert spec["limits"]["maxDeletePercent"] == 10
    assert spec["vault"]["retentionDays"] == 90
    assert spec["suspend"] is False
    assert spec["references"] == [REFERENCE]
