"""A result as JSON: whole, on one line, for whoever reads a log; and in short, for a pod's termination message.

Kubernetes keeps at most 4,096 bytes of that message, which is all that a controller learns without reading logs. So the
short form has what decides what happens next, and gives up the longest texts first where it must.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3gc.results import GCMetrics, GCResult, RestoreResult

__all__ = ["SHORT_BYTES", "result_line", "short_restore", "short_result"]

#: Of a termination message, as Kubernetes documents it.
SHORT_BYTES = 4096
_ERRORS = 3
_ERROR_CHARACTERS = 200
_SOURCES = 8
_SOURCE_CHARACTERS = 160
_LEFT_OUT = {
    "coverage", "guards", "errors", "requests", "skipped", "purge_kept", "phase_seconds", "late_reference_keys",
    "sources",
}  # fmt: skip


def result_line(result: GCResult) -> str:
    """The whole result as one line of JSON, without a line break."""
    return json.dumps(result.model_dump(mode="json"), ensure_ascii=False)


def short_result(result: GCResult, limit: int = SHORT_BYTES, *, metrics: GCMetrics | None = None) -> str:
    """What decides what happens next, as JSON of at most `limit` bytes of UTF-8.

    Outcome, counts and digest, the guards that tripped with their numbers, three errors of at most 200 characters, and
    how eight sources were verified; `metrics` are those of the vault.
    """
    short: dict[str, Any] = {
        key: value
        for key, value in result.model_dump(mode="json", exclude=_LEFT_OUT).items()
        if value not in (0, "", None)
    }
    short["guards"] = [
        guard.model_dump(mode="json", include={"guard", "subject", "value", "limit", "waivable", "waived"})
        for guard in result.guards
        if guard.tripped
    ]
    short["errors"] = [_cut(error, _ERROR_CHARACTERS) for error in result.errors[:_ERRORS]]
    short["sources"] = [
        {
            key: _cut(value, _SOURCE_CHARACTERS) if isinstance(value, str) else value
            for key, value in source.model_dump(mode="json").items()
            if value not in ("", None)
        }
        for source in result.sources[:_SOURCES]
    ]
    if metrics is not None:
        short["metrics"] = metrics.model_dump(mode="json", exclude={"last_error"})
    return _fitting(short, limit)


def short_restore(result: RestoreResult, limit: int = SHORT_BYTES) -> str:
    """What a restore did, as JSON of at most `limit` bytes of UTF-8: counts, and why some keys did not come back."""
    short: dict[str, Any] = result.model_dump(
        mode="json",
        include={
            "operation_id",
            "dry_run",
            "restored_count",
            "skipped_count",
            "failed_count",
            "restored_bytes",
            "duration_seconds",
        },
    )
    failed = [f"{key}: {why}" for key, why in result.failed_keys.items()]
    short["guards"] = []
    short["errors"] = [_cut(error, _ERROR_CHARACTERS) for error in (*result.errors, *failed)[:_ERRORS]]
    return _fitting(short, limit)


def _fitting(short: dict[str, Any], limit: int) -> str:
    text = _compact(short)
    while len(text.encode()) > limit:
        if not _give_up(short):
            raise ValueError(f"a result does not fit into {limit} bytes")
        text = _compact(short)
    return text


def _give_up(short: dict[str, Any]) -> bool:
    """Shorten what can best be missed; False when nothing is left to give up."""
    if len(short["guards"]) > 3:
        short["guards"].pop()
    elif short.get("report") or short.get("verification_reason"):
        short.pop("report", None)
        short.pop("verification_reason", None)
    elif short.get("sources"):
        short["sources"].pop()
    elif short["errors"]:
        last = short["errors"].pop()
        if len(last) > 20:
            short["errors"].append(_cut(last, len(last) // 2))
    elif short["guards"]:
        short["guards"].pop()
    else:
        return False
    return True


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _compact(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
