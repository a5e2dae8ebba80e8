"""What the API server takes as a GCRestore, what it refuses, and with which sentence."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from s3gc.manifest import GCRestore
from tests.crds.conftest import RESTORE, Server, changed

OPERATION = "01HX0000000000000000000000"
BY_ID = changed(changed(RESTORE, "spec.latest", None), "spec.operationID", OPERATION)

ACCEPTED: list[tuple[str, object]] = [
    ("", None),
    ("spec.latest", False),
    ("spec.keys", ["a.jpg", "$(HOME)/b.jpg"]),
    ("spec.keys", ["x" * 1024] * 256),
    ("spec.prefixes", ["uploads/"]),
    ("spec.target", {"bucket": "rescue"}),
    ("spec.target", {"prefix": "friday/"}),
    ("spec.dryRun", True),
]
REFUSED: list[tuple[str, object, str]] = [
    ("spec.bucketGCRef", None, "spec.bucketGCRef: Required value"),
    ("spec.bucketGCRef", {}, "spec.bucketGCRef.name: Required value"),
    ("spec.latest", True, "give exactly one of operationID and latest"),
    ("spec.operationID", None, "give exactly one of operationID and latest"),
    ("spec.operationID", "latest", "should be at least 26 chars long"),
    ("spec.operationID", "01HX000000000000000000000!", "should match"),
    ("spec.keys", [""], "should be at least 1 chars long"),
    ("spec.keys", ["x"] * 257, "must have at most 256 items"),
    ("spec.target", {}, "a target names a bucket, a prefix, or both"),
    ("spec.overwrite", True, 'unknown field "spec.overwrite"'),
]


def named(case: object) -> str | None:
    return case if isinstance(case, str) else None


@pytest.mark.parametrize(("path", "value"), ACCEPTED, ids=named)
def test_accepted(server: Server, path: str, value: object) -> None:
    manifest = changed(BY_ID, path, value)
    server.create(manifest)
    GCRestore.model_validate(manifest)


@pytest.mark.parametrize(("path", "value", "sentence"), REFUSED, ids=named)
def test_refused_by_the_api_server_and_by_the_operator(
    server: Server, path: str, value: object, sentence: str
) -> None:
    manifest = changed(BY_ID, path, value)
    assert sentence in server.refusal(manifest)
    with pytest.raises(ValidationError):
        GCRestore.model_validate(manifest)


def test_latest_is_accepted(server: Server) -> None:
    server.create(RESTORE)


def test_a_long_name_is_refused(server: Server) -> None:
    assert "the name is longer than 40" in server.refusal(changed(RESTORE, "metadata.name", "a" * 41))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.bucketGCRef.name", "other"),
        ("spec.latest", None),
        ("spec.dryRun", True),
        ("spec.keys", ["a.jpg"]),
        ("spec.target", {"prefix": "x/"}),
    ],
)
def test_it_cannot_be_changed(server: Server, path: str, value: object) -> None:
    name = f"fixed-{path.rpartition('.')[2].lower()}"
    stored = changed(RESTORE, "metadata.name", name)
    server.create(stored, keep=True)
    moved = changed(stored, path, value)
    if path == "spec.latest":
        moved["spec"]["operationID"] = OPERATION
    assert "a GCRestore cannot be changed; make another one" in server.refusal(moved, replacing=True)
