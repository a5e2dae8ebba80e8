"""What of an object's recorded headers is sent when it comes back, and what the store then made of it.

Pure functions over `BackupEntry.headers`, which are the store's own words at the time of the backup. They
are sent as they were: a value in RFC 2047 form goes back in RFC 2047 form, a date that no parser likes
goes back as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlencode

from s3gc.store.types import ObjectHead
from s3gc.store.xml import parse_xml
from s3gc.vault.records import BackupEntry

__all__ = ["are_tags_apart", "comparable_etags", "grants_in", "headers_for", "lost_in", "part_size_of"]

_CONTENT = (
    "cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires",
    "x-amz-website-redirect-location",
)  # fmt: skip
_SSE = "x-amz-server-side-encryption"
_KMS_KEY = f"{_SSE}-aws-kms-key-id"
_BUCKET_KEY = f"{_SSE}-bucket-key-enabled"
#: The one checksum that is sent back, so that the store proves the bytes once more: the first that is
#: recorded.
_CHECKSUMS = ("sha256", "crc64nvme", "crc32c", "crc32", "sha1")
_GRANTS = {
    "FULL_CONTROL": "x-amz-grant-full-control",
    "READ": "x-amz-grant-read",
    "READ_ACP": "x-amz-grant-read-acp",
    "WRITE_ACP": "x-amz-grant-write-acp",
}
#: All headers of a request together may have 8 KB, user metadata 2 KB of them.
_LONGEST_TAGGING = 2048
_MIB = 1024 * 1024
#: Part sizes that clients use by default: AWS's CLI and SDKs, s3cmd, rclone, MinIO's mc, s5cmd, the Java SDK.
_USUAL_PARTS = tuple(size * _MIB for size in (8, 5, 16, 15, 10, 32, 50, 64, 100, 128, 256, 512))
_DEFAULT_PART = 64 * _MIB
_MOST_PARTS = 10_000


def headers_for(entry: BackupEntry, *, is_original: bool, is_multipart: bool) -> dict[str, str]:
    """The headers that bring back what `entry` recorded.

    At another place than the original (`is_original` False) the KMS key and the grants stay away: they
    belong to the bucket where the object was.
    """
    recorded = entry.headers
    sent = {
        name: value for name, value in recorded.items() if name in _CONTENT or name.startswith("x-amz-meta-")
    }
    if entry.storage_class != "STANDARD":
        sent["x-amz-storage-class"] = entry.storage_class
    if entry.tags and not are_tags_apart(entry):
        sent["x-amz-tagging"] = _tagging(entry)
    encryption = recorded.get(_SSE, "")
    if encryption == "AES256" or (encryption and is_original):
        sent[_SSE] = encryption
        sent.update({name: recorded[name] for name in (_KMS_KEY, _BUCKET_KEY) if name in recorded})
    if not is_multipart and recorded.get("x-amz-checksum-type", "FULL_OBJECT") == "FULL_OBJECT":
        names = [f"x-amz-checksum-{algorithm}" for algorithm in _CHECKSUMS]
        found = next((name for name in names if name in recorded and "-" not in recorded[name]), None)
        if found is not None:
            sent[found] = recorded[found]
    if entry.acl is not None and is_original:
        sent.update(_grants(entry.acl))
    return sent


def are_tags_apart(entry: BackupEntry) -> bool:
    """Whether its tags are set after the object was written: percent-encoded they may be longer than a store takes in
    headers, though it took them in a request of their own."""
    return len(_tagging(entry)) > _LONGEST_TAGGING


def _tagging(entry: BackupEntry) -> str:
    return urlencode(entry.tags or (), quote_via=quote)


def grants_in(headers: Mapping[str, str]) -> set[str]:
    """The names of the headers that express an ACL."""
    return {name for name in headers if name in _GRANTS.values()}


def _grants(acl: str) -> dict[str, str]:
    """The recorded ACL as grant headers of a PUT; empty when it cannot be read (the bucket's default then
    holds)."""
    try:
        grants = parse_xml(acl.encode()).find("AccessControlList")
    except ValueError:
        return {}
    found: dict[str, list[str]] = {}
    for grant in grants.all("Grant") if grants is not None else ():
        header = _GRANTS.get(grant.get("Permission"))
        uri, grantee = grant.get("Grantee/URI"), grant.get("Grantee/ID")
        who = f'uri="{uri}"' if uri else f'id="{grantee}"' if grantee else ""
        if header and who:
            found.setdefault(header, []).append(who)
    return {header: ", ".join(who) for header, who in found.items()}


def comparable_etags(entry: BackupEntry, head: ObjectHead) -> bool:
    """Whether equal bytes must have equal ETags here: both are MD5s of the whole, and nothing is
    encrypted."""
    is_plain = "-" not in entry.etag and "-" not in head.etag
    return is_plain and _SSE not in entry.headers and _SSE not in head.headers


def lost_in(entry: BackupEntry, head: ObjectHead) -> list[str]:
    """What the store did not keep of what was sent, in words; a store may drop a header without a word of
    its own."""
    losses: list[str] = []
    if head.storage_class != entry.storage_class:
        losses.append(f"its storage class is {head.storage_class}, recorded was {entry.storage_class}")
    if head.headers.get(_SSE) != entry.headers.get(_SSE):
        now, was = head.headers.get(_SSE, "none"), entry.headers.get(_SSE, "none")
        losses.append(f"its server-side encryption is {now}, recorded was {was}")
    for name, value in entry.headers.items():
        if name not in _CONTENT and not name.startswith("x-amz-meta-"):
            continue
        found = head.headers.get(name)
        if found != value:
            losses.append(f"its {name} is {found!r}, recorded was {value!r}")
    count = int(head.headers.get("x-amz-tagging-count", "0") or 0)
    if entry.tags and count != len(entry.tags):
        losses.append(f"it has {count} tags, recorded were {len(entry.tags)}")
    if head.etag != entry.etag:
        losses.append(
            f"its ETag is {head.etag}, recorded was {entry.etag} (other parts or another encryption)"
        )
    return losses


def part_size_of(entry: BackupEntry) -> int:
    """The part size that the original upload probably had, from the number of parts in its ETag; else a
    sensible one.

    With the same part size the ETag comes back too; with another one only the bytes do.
    """
    count = entry.etag.rpartition("-")[2]
    parts = int(count) if "-" in entry.etag and count.isdigit() else 0
    if 0 < parts <= _MOST_PARTS:
        for size in _USUAL_PARTS:
            if -(-entry.size // size) == parts:
                return size
    return max(_DEFAULT_PART, -(-entry.size // _MOST_PARTS))
