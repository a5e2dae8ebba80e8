"""The small JSON files of an operation that are records by themselves: ``operation.json`` and
``approval.json``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

__all__ = ["OWES", "Approval", "OperationRecord", "iso_time"]

#: In `OperationRecord.extra`: an object of it is referenced and could not be brought back yet, so it must not expire.
OWES = "healing_failed"


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """``operation.json``. `mode` and `outcome` are the values of GCMode and Outcome, `journal` is "none"
    (nothing was ever intended), "open" (deletions may have happened that were not checked) or "closed".

    `manifest` has `sha256`, `size` and `rows` once there is one. `problem` is set, and never stored, when the
    file itself could not be read; `journal` is then "open" if there are journals, which is the careful guess.
    """

    id: str
    scope: str
    bucket: str
    mode: str
    started_at: datetime
    completed_at: datetime | None = None
    outcome: str | None = None
    journal: str = "none"
    manifest: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    def to_json(self) -> bytes:
        value = {name: item for name, item in asdict(self).items() if name != "problem"}
        return (
            json.dumps({"version": 1, **value}, indent=1, ensure_ascii=False, default=iso_time) + "\n"
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> OperationRecord:
        """Raises ValueError, KeyError or TypeError for anything else than an operation's record."""
        value = json.loads(data)
        known = {f.name for f in fields(cls)}
        chosen = {name: item for name, item in value.items() if name in known}
        for name in ("started_at", "completed_at"):
            if chosen.get(name) is not None:
                chosen[name] = datetime.fromisoformat(chosen[name]).astimezone(UTC)
        return cls(**chosen)


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's consent to exactly one plan."""

    digest: str
    by: str
    at: datetime


def iso_time(value: object) -> str:
    """For `json.dumps(default=…)`: a time in ISO 8601, UTC."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    raise TypeError(f"{type(value).__name__} has no JSON form here")
