"""docs/resources.md: every field of both resources, as the CRDs have it. `chartfiles` writes it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent

_HEAD = """\
# Resources

Every field of `BucketGC` and `GCRestore`, made from `crds/` by `make generated`; see `kubectl explain bucketgc`, too.
What a policy's fields do: [policy.md](policy.md). What the conditions of a status mean: [conditions.md](conditions.md).

Two annotations are for you to set on a BucketGC; s3gc never writes or removes them:

| annotation | what |
|---|---|
| `s3gc.dev/run-requested-at` | any new text starts a cycle now; it is compared with `status.lastHandledRunRequest` |
| `s3gc.dev/approve` | the digest of the plan that waits, `status.pendingApproval.planDigest`: it is carried out |
"""


def _rules(schema: dict[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", ()):
        yield path or "the object", rule["message"]
    for name, part in schema.get("properties", {}).items():
        yield from _rules(part, f"{path}.{name}" if path else name)
    if isinstance(schema.get("items"), dict):
        yield from _rules(schema["items"], f"{path}[]")


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return "number or text"
    if schema.get("type") == "array":
        limit = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list{limit}"
    bounds = [
        f"{sign} {schema[name]}"
        for name, sign in (
            ("minimum", "≥"),
            ("maximum", "≤"),
            ("minLength", "length ≥"),
            ("maxLength", "length ≤"),
        )
        if name in schema and not (name == "minLength" and schema[name] == 1)
    ]
    kind = {"string": "text", "object": "", "integer": "number"}.get(schema["type"], schema["type"])
    kind = schema.get("format", kind) if schema.get("format") == "date-time" else kind
    return ", ".join(part for part in (kind, *bounds) if part)


def _rows(schema: dict[str, Any], path: str) -> Iterator[str]:
    required = set(schema.get("required", ()))
    for name, part in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        what = " ".join(part.get("description", "").split()).replace("|", "\\|")
        default = (
            f"`{json.dumps(part['default'])}`"
            if "default" in part
            else ("**required**" if name in required else "")
        )
        yield f"| `{here}` | {_kind(part)} | {default} | {what} |"
        yield from _rows(part, here)
        if isinstance(part.get("items"), dict):
            yield from _rows(part["items"], f"{here}[]")


def _section(crd: dict[str, Any]) -> Iterator[str]:
    names, version = crd["spec"]["names"], crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]
    short = ", ".join(f"`{each}`" for each in names["shortNames"])
    yield f"\n## {names['kind']}\n"
    what = " ".join(schema.get("description", "").split())
    yield f"`{crd['spec']['group']}/{version['name']}`, short {short}. {what}\n"
    for part in ("spec", "status"):
        yield f"### {names['kind']}: {part}\n"
        yield "| field | type | default | what |\n|---|---|---|---|"
        yield from _rows(schema["properties"][part], part)
        yield ""
    yield f"### {names['kind']}: what is refused\n"
    yield "| where | why |\n|---|---|"
    for where, message in _rules(schema, ""):
        yield f"| `{where}` | {message} |"


def reference() -> str:
    lines = [_HEAD]
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        lines += _section(yaml.safe_load(path.read_text()))
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"
