"""The CustomResourceDefinitions, made from the models: what `crds/` holds and `s3gc crds` prints.

pydantic's JSON schema is nearly what Kubernetes wants. A structural schema (Kubernetes documentation, "Custom
Resources") has no references, no null and no `propertyNames`, writes exclusive bounds as draft 4 did, and
says where anything may stand. Defaults inside lists are left to the operator: the API server would write
them into the objects, and a GitOps tool that compares lists as a whole would see a difference for ever.
"""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import BaseModel

from s3gc.controller.statuses import BucketGCStatus, GCRestoreStatus
from s3gc.manifest import GROUP, VERSION, BucketGCSpec, GCRestoreSpec

__all__ = ["MAX_BUCKETGC_NAME", "MAX_GCRESTORE_NAME", "bucketgcs", "definitions", "gcrestores"]

#: A Job is called <name>-<unix minute>, a pod after its Job, and a label holds 63 characters.
MAX_BUCKETGC_NAME = 40
MAX_GCRESTORE_NAME = 40

_DROPPED = {"title", "default", "propertyNames", "additionalProperties", "$defs", "anyOf", "$ref"}
#: As people read a schema; what is not named here stands between these and the nested parts.
_FIRST = ("description", "type", "format", "enum", "pattern", "default")
_LAST = ("required", "properties", "items", "additionalProperties")


def bucketgcs() -> dict[str, Any]:
    """The CRD of BucketGC."""
    return _definition(
        kind="BucketGC",
        plural="bucketgcs",
        short="bgc",
        what="BucketGC finds the objects of a bucket that no database row references, backs them up, deletes them.",
        spec=BucketGCSpec,
        status=BucketGCStatus,
        max_name=MAX_BUCKETGC_NAME,
        columns=[
            _column("Bucket", ".spec.bucket.name"),
            _column("Mode", ".spec.mode"),
            _column("Schedule", ".spec.schedule"),
            _column("Suspended", ".spec.suspend", "boolean", priority=1),
            _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            _column("Running", ".status.active.phase"),
            _column("Last cycle", ".status.lastCycle.completionTime", "date"),
            _column("Result", ".status.lastCycle.outcome"),
            _column("Deleted", ".status.lastCycle.deletedCount", "integer"),
            _column("Next", ".status.nextScheduleTime", "string", priority=1),
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
    )


def gcrestores() -> dict[str, Any]:
    """The CRD of GCRestore."""
    return _definition(
        kind="GCRestore",
        plural="gcrestores",
        short="gcr",
        what="GCRestore brings back what one operation of a BucketGC deleted, once.",
        spec=GCRestoreSpec,
        status=GCRestoreStatus,
        max_name=MAX_GCRESTORE_NAME,
        columns=[
            _column("BucketGC", ".spec.bucketGCRef.name"),
            _column("Operation", ".status.operationID"),
            _column("Dry run", ".spec.dryRun", "boolean", priority=1),
            _column("Succeeded", '.status.conditions[?(@.type=="Succeeded")].status'),
            _column("Reason", '.status.conditions[?(@.type=="Succeeded")].reason'),
            _column("Restored", ".status.restoredCount", "integer"),
            _column("Skipped", ".status.skippedCount", "integer", priority=1),
            _column("Failed", ".status.failedCount", "integer"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
    )


def definitions() -> dict[str, str]:
    """The files of `crds/`: name and text of each."""
    return {"bucketgcs.yaml": _text(bucketgcs()), "gcrestores.yaml": _text(gcrestores())}


def _text(definition: dict[str, Any]) -> str:
    head = "# Made by `s3gc crds` from the models of s3gc.manifest; `make generated` makes it anew.\n"
    return head + yaml.dump(
        definition, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False
    )


class _Plain(yaml.SafeDumper):
    """Lists indented as people write them, and no anchors: the same rule may stand twice."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _column(name: str, path: str, kind: str = "string", *, priority: int = 0) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path}
    if priority:
        column["priority"] = priority
    return column


def _definition(
    *,
    kind: str,
    plural: str,
    short: str,
    what: str,
    spec: type[BaseModel],
    status: type[BaseModel],
    max_name: int,
    columns: list[dict[str, Any]],
) -> dict[str, Any]:
    root = {
        "type": "object",
        "description": what,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(spec),
            # The status is written whole by the operator: a default would only put back what it left out.
            "status": structural(status, defaults=False),
        },
        "x-kubernetes-validations": [
            {
                "rule": f"self.metadata.name.size() <= {max_name}",
                "message": f"the name is longer than {max_name} characters, and Jobs are called after it",
            }
        ],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"app.kubernetes.io/name": "s3gc"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["s3gc"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": columns,
                    "schema": {"openAPIV3Schema": root},
                }
            ],
        },
    }


def structural(model: type[BaseModel], *, defaults: bool = True) -> dict[str, Any]:
    """The structural schema of a model."""
    schema = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(schema, schema.get("$defs", {}), defaults=defaults)


def _structural(node: dict[str, Any], definitions: dict[str, Any], *, defaults: bool) -> dict[str, Any]:
    node = _resolved(node, definitions)
    out = {name: value for name, value in node.items() if name not in _DROPPED}
    for bound in ("Minimum", "Maximum"):
        if f"exclusive{bound}" in out:
            out[bound.lower()] = out[f"exclusive{bound}"]
            out[f"exclusive{bound}"] = True
    if out.get("type") == "integer":
        out.setdefault("format", "int64")
    if "properties" in node:
        out["properties"] = {
            name: _structural(part, definitions, defaults=defaults)
            for name, part in node["properties"].items()
        }
    if "items" in node:
        out["items"] = _structural(node["items"], definitions, defaults=False)
    if isinstance(values := node.get("additionalProperties"), dict):
        out["additionalProperties"] = _structural(values, definitions, defaults=False)
    elif out.get("type") == "object" and "properties" not in out:
        out["x-kubernetes-preserve-unknown-fields"] = True
    if defaults and (default := _default(node, out)) is not None:
        out["default"] = default
    names = [*_FIRST, *sorted(set(out) - {*_FIRST, *_LAST}), *_LAST]
    return {name: _number(out[name]) for name in names if name in out}


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """`node` without a reference and without null; what stands beside a reference counts more than what it names."""
    own = {name: value for name, value in node.items() if name not in ("$ref", "anyOf")}
    if "$ref" in node:
        return {**_resolved(definitions[node["$ref"].rpartition("/")[2]], definitions), **own}
    if "anyOf" in node:
        (something,) = (part for part in node["anyOf"] if part.get("type") != "null")
        return {**_resolved(something, definitions), **own}
    return node


def _default(node: dict[str, Any], out: dict[str, Any]) -> Any:
    """What the API server fills in: scalars, and `{}` for an object whose fields have defaults of their own."""
    default = node.get("default")
    if default is None or default in ("", []):
        return None
    if isinstance(default, dict):
        return {} if any("default" in part for part in out.get("properties", {}).values()) else None
    return default


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
