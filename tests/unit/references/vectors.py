"""The vectors of tests/vectors/references.json as values, and the rules that they are read by."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s3gc.config import ReferenceFormat
from s3gc.references.types import PrefixReference, ReferenceRules

PATH = Path(__file__).parents[2] / "vectors" / "references.json"


@dataclass(frozen=True)
class Vector:
    name: str
    value: Any
    format: ReferenceFormat
    rules: ReferenceRules
    expected: dict[str, Any]


def rules_of(context: dict[str, Any]) -> ReferenceRules:
    return ReferenceRules(
        bucket=context["bucket"],
        endpoint_hosts=frozenset(context.get("endpoint_hosts", ())),
        base_urls=tuple((url, prefix) for url, prefix in context.get("base_urls", ())),
        key_prefixes=tuple(context.get("key_prefixes", ())),
        foreign_hosts=frozenset(context.get("foreign_hosts", ())),
    )


def _value(case: dict[str, Any]) -> Any:
    ref = case["ref"]
    match case.get("type"):
        case "bytes":
            return bytes.fromhex(ref)
        case "uuid":
            return uuid.UUID(ref)
        case "prefix":
            return PrefixReference(ref)
        case _:
            return ref


def load() -> list[Vector]:
    document = json.loads(PATH.read_text(encoding="utf-8"))
    return [
        Vector(
            name=f"{case['group']}: {case['name']}",
            value=_value(case),
            format=ReferenceFormat(case.get("format", "auto")),
            rules=rules_of({**document["context"], **case.get("context", {})}),
            expected=case,
        )
        for case in document["cases"]
    ]
