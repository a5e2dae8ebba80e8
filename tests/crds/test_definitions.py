"""The definitions themselves: bounded everywhere, and what kubectl shows of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from s3gc.controller.crd import bucketgcs, definitions, gcrestores
from tests.crds.conftest import Server
from tests.testbed.kubernetes import Kubernetes

ROOT = Path(__file__).parents[2]
BOTH = [bucketgcs(), gcrestores()]


def nodes(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from nodes(part, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


def everything(definition: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return [
        *nodes(root["properties"]["spec"], "spec"),
        *nodes(root["properties"]["status"], "status"),
    ]


@pytest.mark.parametrize("definition", BOTH, ids=lambda each: str(each["spec"]["names"]["plural"]))
def test_every_string_list_map_and_number_is_bounded(definition: dict[str, Any]) -> None:
    for path, node in everything(definition):
        match node["type"]:
            case "string":
                assert "enum" in node or node.get("format") == "date-time" or "maxLength" in node, path
            case "array":
                assert "maxItems" in node, path
            case "object" if "additionalProperties" in node:
                assert "maxProperties" in node, path
            case "integer" | "number" if path.startswith("spec"):
                assert "minimum" in node, path
                assert "maximum" in node, path


@pytest.mark.parametrize("definition", BOTH, ids=lambda each: str(each["spec"]["names"]["plural"]))
def test_every_field_is_described(definition: dict[str, Any]) -> None:
    for path, node in everything(definition):
        if not path.endswith(("[]", "{}")):
            assert node.get("description", "").endswith((".", ":", "…")), path


def test_the_files_are_current() -> None:
    for name, text in definitions().items():
        assert (ROOT / "crds" / name).read_text() == text, "run `make generated`"


def test_the_api_server_finds_the_schemas_structural(kubernetes_api: Kubernetes, server: Server) -> None:
    for plural in ("bucketgcs", "gcrestores"):
        found = kubernetes_api.get("crd", f"{plural}.s3gc.dev")
        conditions = {each["type"]: each["status"] for each in found["status"]["conditions"]}
        assert conditions["Established"] == "True"
        assert conditions.get("NonStructuralSchema", "False") == "False"


def test_kubectl_knows_short_names_the_category_and_explains_fields(
    kubernetes_api: Kubernetes, server: Server, tmp_path: Path
) -> None:
    def kubectl(*words: str) -> str:
        # A cache of its own: kubectl remembers for hours what a server had before.
        return kubernetes_api.kubectl("--cache-dir", str(tmp_path), "-n", server.namespace, *words)

    for words in ("bgc", "gcr", "s3gc"):
        kubectl("get", words)
    assert "Name of the bucket. Cannot be changed." in kubectl("explain", "bgc.spec.bucket.name")


def test_kubectl_shows_the_columns(kubernetes_api: Kubernetes, server: Server) -> None:
    wanted = yaml.safe_load((ROOT / "examples" / "policy.yaml").read_text())
    wanted["metadata"] = {"name": "columns", "namespace": server.namespace}
    kubernetes_api.apply(wanted)
    table = kubernetes_api.kubectl("-n", server.namespace, "get", "bgc", "columns")
    head, row = table.strip().splitlines()
    assert head.split() == [
        "NAME",
        "BUCKET",
        "MODE",
        "SCHEDULE",
        "READY",
        "RUNNING",
        "LAST",
        "CYCLE",
        "RESULT",
        "DELETED",
        "AGE",
    ]
    assert row.startswith("columns   shop-media   DryRun   30 2 * * *")
