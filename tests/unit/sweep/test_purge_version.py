"""When one noncurrent version may be purged, told from the versions of its key alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from s3gc.store.types import ObjectVersion
from s3gc.sweep.purge_version import is_alone, why_not
from s3gc.vault.records import BackupEntry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def entry(version_id: str | None = "v1") -> BackupEntry:
    return BackupEntry(
        operation_id="01HX0000000000000000000000", group=1, key="k", etag="e", size=3, last_modified=NOW,
        version_id=version_id, storage_class="STANDARD", sha256="", headers={}, tags=(), acl=None, parts=(),
    )  # fmt: skip


def marker(version_id: str = "m1") -> ObjectVersion:
    return ObjectVersion("k", version_id, False, True, NOW + timedelta(days=1))


def version(version_id: str = "v1", etag: str = "e", size: int = 3) -> ObjectVersion:
    return ObjectVersion("k", version_id, False, False, NOW, etag, size)


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ([marker(), version()], ""),
        ([marker(), version(), version("v0", "other", 9)], ""),
        ([], "gone"),
        ([marker()], "gone"),
        ([marker(), version("v0", "other", 9)], "gone"),
        # The same bytes under another version id are another upload.
        ([marker(), version("v2")], "gone"),
        ([version()], "back in view"),
        ([version(), version("v0", "other", 9)], "back in view"),
        ([version("v2", "other", 9), marker(), version()], "uploaded again"),
        ([version("v2"), version()], "uploaded again"),
        ([marker("m2"), version()], "another marker"),
        ([marker("m2"), marker(), version()], "another marker"),
        ([marker(), marker("m0"), version()], "another version below"),
        ([marker(), version("v2"), version()], "another version below"),
    ],
)
def test_only_directly_below_our_own_latest_marker(versions: list[ObjectVersion], reason: str) -> None:
    assert why_not(versions, entry(), "m1") == reason


def test_the_version_of_before_versioning_is_the_null_one() -> None:
    assert why_not([marker(), version("null")], entry(None), "m1") == ""
    assert why_not([marker(), version("v1")], entry(None), "m1") == "gone"
    assert why_not([marker(), version("null", "other")], entry(None), "m1") == "gone"


def test_a_marker_is_alone_only_if_it_is_ours_and_all_there_is() -> None:
    assert is_alone([marker()], "m1")
    assert not is_alone([marker("m2")], "m1")
    assert not is_alone([marker(), version()], "m1")
    assert not is_alone([version(), marker()], "m1")
    assert not is_alone([version()], "v1")
    assert not is_alone([], "m1")
