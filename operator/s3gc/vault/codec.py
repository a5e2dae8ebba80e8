"""The exact JSON of journals, audits and pack indexes, and how a damaged one is recognised.

One JSON object a line, UTF-8, keys of the customer readable as they are (a newline inside one is escaped). A
journal ends with a trailer line that carries the number of lines and the SHA-256 of every byte before it, so
a file that was cut off, or in which one byte flipped, is never taken for a shorter or different intent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import zstandard

from s3gc.exceptions import VaultCorruptedError
from s3gc.vault.records import AuditRecord, BackupEntry, PackPart

__all__ = [
    "audit_from_json",
    "audit_to_json",
    "decode_audit",
    "decode_journal",
    "decode_sealed",
    "dump_line",
    "encode_audit",
    "encode_journal",
    "encode_sealed",
    "entry_from_json",
    "entry_to_json",
]


def dump_line(value: Mapping[str, Any]) -> bytes:
    """One line of JSON with its newline. Readable UTF-8; escaped ASCII only where UTF-8 cannot carry the
    text."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate: valid JSON when escaped
        return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _time(value: datetime | None) -> str | None:
    return None if value is None else value.astimezone(UTC).isoformat()


def _parse_time(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def entry_to_json(entry: BackupEntry) -> dict[str, Any]:
    """A `BackupEntry` as JSON: times in ISO 8601 UTC, `tags` and `parts` as lists."""
    return {
        "key": entry.key,
        "operation_id": entry.operation_id,
        "group": entry.group,
        "etag": entry.etag,
        "size": entry.size,
        "last_modified": _time(entry.last_modified),
        "version_id": entry.version_id,
        "storage_class": entry.storage_class,
        "sha256": entry.sha256,
        "headers": dict(entry.headers),
        "tags": None if entry.tags is None else [list(tag) for tag in entry.tags],
        "acl": entry.acl,
        "parts": [[part.pack, part.offset, part.length] for part in entry.parts],
    }


def entry_from_json(value: Mapping[str, Any]) -> BackupEntry:
    """The reverse of `entry_to_json`; raises KeyError, TypeError or ValueError for anything else."""
    tags = value["tags"]
    return BackupEntry(
        operation_id=str(value["operation_id"]),
        group=int(value["group"]),
        key=str(value["key"]),
        etag=str(value["etag"]),
        size=int(value["size"]),
        last_modified=_parse_time(value["last_modified"]),
        version_id=value["version_id"],
        storage_class=str(value["storage_class"]),
        sha256=str(value["sha256"]),
        headers={str(name): str(text) for name, text in value["headers"].items()},
        tags=None if tags is None else tuple((str(name), str(text)) for name, text in tags),
        acl=value["acl"],
        parts=tuple(PackPart(int(pack), int(offset), int(length)) for pack, offset, length in value["parts"]),
    )


def encode_journal(operation_id: str, group: int, entries: Sequence[BackupEntry]) -> bytes:
    """The whole file of one group's intent, trailer included."""
    return encode_sealed(operation_id, group, [entry_to_json(entry) for entry in entries])


def decode_journal(data: bytes, path: str, where: str) -> list[BackupEntry]:
    """Read one journal back, proven by its trailer. `where` is the vault's location, for the message.

    Raises VaultCorruptedError naming the path when the file was cut off or changed.
    """
    try:
        return [entry_from_json(value) for value in decode_sealed(data)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _corrupted(where, path, str(error)) from None


def encode_sealed(operation_id: str, group: int, values: Sequence[Mapping[str, Any]]) -> bytes:
    """Lines of JSON and the trailer that proves them."""
    body = b"".join(dump_line(value) for value in values)
    digest = hashlib.sha256(body).hexdigest()
    trailer = {
        "trailer": {"operation_id": operation_id, "group": group, "count": len(values), "sha256": digest}
    }
    return body + dump_line(trailer)


def decode_sealed(data: bytes) -> list[Any]:
    """The reverse of `encode_sealed`; ValueError says what is wrong with a file that was cut off or changed."""
    body, newline, last = data.removesuffix(b"\n").rpartition(b"\n")
    body += newline
    try:
        trailer = json.loads(last)["trailer"]
        count, digest = int(trailer["count"]), str(trailer["sha256"])
    except (ValueError, KeyError, TypeError):
        lines = data.count(b"\n")
        raise ValueError(f"it ends without its trailer, after {lines} whole lines: it was cut off") from None
    if hashlib.sha256(body).hexdigest() != digest:
        raise ValueError("its SHA-256 is not the one in its trailer: bytes in it changed")
    try:
        values = [json.loads(line) for line in body.split(b"\n") if line]
    except ValueError as error:
        raise ValueError(f"a line of it is not an entry ({error})") from None
    if len(values) != count:
        raise ValueError(f"its trailer counts {count} entries, it has {len(values)}")
    return values


def _corrupted(where: str, path: str, what: str) -> VaultCorruptedError:
    return VaultCorruptedError(
        f"journal {path} of the vault {where} is damaged: {what}. The objects of that group can still be "
        "restored from "
        "the indexes of the operation's packs (a restore does so by itself); no other operation is "
        "affected. Bring the "
        "file back from a copy of the vault, or move it away once its objects are restored",
        details={"path": path},
    )


def audit_to_json(record: AuditRecord) -> dict[str, Any]:
    """An `AuditRecord` as JSON; empty fields are left out."""
    value: dict[str, Any] = {
        "at": _time(record.at),
        "operation_id": record.operation_id,
        "key": record.key,
        "action": record.action,
        "reason": record.reason,
        "detail": record.detail,
        "etag": record.etag,
        "size": record.size,
        "version_id": record.version_id,
        "marker_version_id": record.marker_version_id,
    }
    return {name: item for name, item in value.items() if item not in ("", None) or name == "action"}


def audit_from_json(value: Mapping[str, Any]) -> AuditRecord:
    return AuditRecord(
        at=_parse_time(value["at"]),
        operation_id=str(value["operation_id"]),
        key=str(value.get("key", "")),
        action=str(value["action"]),
        reason=str(value.get("reason", "")),
        detail=str(value.get("detail", "")),
        etag=str(value.get("etag", "")),
        size=int(value.get("size", 0)),
        version_id=value.get("version_id"),
        marker_version_id=value.get("marker_version_id"),
    )


def encode_audit(records: Iterable[AuditRecord]) -> bytes:
    """One zstd frame of JSON lines with a checksum; frames may stand one after another in a file."""
    lines = b"".join(dump_line(audit_to_json(record)) for record in records)
    return zstandard.ZstdCompressor(level=3, write_checksum=True).compress(lines)


def decode_audit(data: bytes, path: str, where: str) -> list[AuditRecord]:
    """Read one audit file, frame by frame. Raises VaultCorruptedError naming the path."""
    records: list[AuditRecord] = []
    try:
        while data:
            # A stream reader would take a cut-off frame for the end of the input, so each frame is asked
            # whether it ended.
            frame = zstandard.ZstdDecompressor().decompressobj()
            lines = frame.decompress(data)
            if not frame.eof:
                raise ValueError("its last frame was cut off")
            records.extend(audit_from_json(json.loads(line)) for line in lines.split(b"\n") if line)
            data = frame.unused_data
    except (zstandard.ZstdError, ValueError, KeyError, TypeError) as error:
        raise VaultCorruptedError(
            f"audit {path} of the vault {where} is damaged ({error}). Backups and restores do not need it: "
            "only the "
            "record of what was done to that group's objects is lost",
            details={"path": path},
        ) from None
    return records
