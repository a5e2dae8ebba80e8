"""The generated files around the chart: its CRDs, its README, its dashboard, plain manifests. `generated` writes them.

crds/ is the source of the CRDs, values.schema.json of what the README says of each value, `dashboard` of the panels,
and the chart of the plain manifests, which need helm (`make tools`) to be made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
CHART = ROOT / "charts" / "s3gc"
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "tools"))

from crdreference import reference  # noqa: E402
from dashboard import dashboard  # noqa: E402

_LABELS = "  labels:\n    app.kubernetes.io/name: s3gc\n"
_CHART_METADATA = """\
  labels: {{- include "s3gc.labels" . | nindent 4 }}
  {{- if .Values.crds.keep }}
  annotations:
    # Without it `helm uninstall` would remove the definition, and with it every object of its kind.
    helm.sh/resource-policy: keep
  {{- end }}
"""

_MANIFEST_HEAD = """\
# The operator of s3gc, its CRDs and its rights, for the whole cluster: kubectl apply --server-side -f deploy/s3gc.yaml
# Rendered from charts/s3gc by `make generated`. Set the image to the one that you built and pushed, with sed or a
# kustomization (examples/kubernetes/kustomize/). It stands twice: once for the operator, once for its Jobs.
apiVersion: v1
kind: Namespace
metadata:
  name: s3gc
  labels:
    app.kubernetes.io/name: s3gc
    pod-security.kubernetes.io/enforce: restricted
"""


def crd_template(text: str) -> str:
    """A CRD of crds/ as a template of the chart: optional, labelled, and kept where the values say so."""
    if text.count(_LABELS) != 1:
        raise SystemExit("a CRD has no labels where the chart puts its own; see tools/chartfiles.py")
    escaped = text.replace("{{", '{{ "{{" }}').replace(_LABELS, _CHART_METADATA)
    return "{{- if .Values.crds.install }}\n" + escaped.rstrip("\n") + "\n{{- end }}\n"


def _rows(schema: dict[str, Any], values: Any, path: str = "") -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        if not path and name == "global":
            continue
        here = f"{path}{name}"
        default = values.get(name) if isinstance(values, dict) else None
        if "properties" in part and part.get("additionalProperties") is False and not here.endswith("Probe"):
            yield from _rows(part, default, f"{here}.")
            continue
        text = json.dumps(default, ensure_ascii=False)
        kind = part["type"] if isinstance(part["type"], str) else " or ".join(part["type"])
        if "enum" in part:
            kind = ", ".join(f"`{each}`" if each else "empty" for each in part["enum"])
        yield f"| `{here}` | {kind} | `{text}` | {part['description']} |"


def values_table() -> str:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = "\n".join(_rows(schema, values))
    return f"| value | type | default | what |\n|---|---|---|---|\n{rows}\n"


def helm_binary() -> Path | None:
    from tests.testbed import tools

    return tools.binary("helm") if tools.is_built("helm") else None


def plain_manifests(helm: Path) -> str:
    """The chart as `kubectl apply` takes it, without the labels that are Helm's."""
    command = [str(helm), "template", "s3gc", str(CHART), "--namespace", "s3gc", "--kube-version", "1.30.0"]
    command += ["--set", "crds.keep=false"]
    rendered = subprocess.run(command, capture_output=True, text=True, check=False)
    if rendered.returncode != 0:
        raise SystemExit(f"helm template failed: {rendered.stderr}")
    left_out = ("helm.sh/chart:", "app.kubernetes.io/managed-by: Helm", "# Source: ")
    lines = [line for line in rendered.stdout.splitlines() if not line.strip().startswith(left_out)]
    return _MANIFEST_HEAD + "\n".join(lines) + "\n"


_ARGOCD_HEAD = """\
# Argo CD's health checks and actions for s3gc, for its argocd-cm. Made by `make generated` from health/ and
# actions/, which a test runs.
"""


class _Literal(str):
    """A text that YAML shows as it is, line by line."""

    __slots__ = ()


def _as_block(dumper: yaml.SafeDumper, text: _Literal) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


yaml.SafeDumper.add_representer(_Literal, _as_block)


def argocd_settings() -> str:
    folder = ROOT / "examples" / "gitops" / "argocd"
    data: dict[str, str] = {}
    for path in sorted((folder / "health").glob("*.lua")):
        data[f"resource.customizations.health.s3gc.dev_{path.stem}"] = _Literal(path.read_text())
    definitions = [
        {"name": path.stem.partition(".")[2], "action.lua": _Literal(path.read_text())}
        for path in sorted((folder / "actions").glob("BucketGC.*.lua"))
        if not path.stem.endswith(".discovery")
    ]
    discovery = _Literal((folder / "actions" / "BucketGC.discovery.lua").read_text())
    actions = {"discovery.lua": discovery, "definitions": definitions}
    data["resource.customizations.actions.s3gc.dev_BucketGC"] = _Literal(
        yaml.safe_dump(actions, sort_keys=False, width=120)
    )
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "argocd-cm",
            "namespace": "argocd",
            "labels": {"app.kubernetes.io/name": "argocd-cm", "app.kubernetes.io/part-of": "argocd"},
        },
        "data": data,
    }
    return _ARGOCD_HEAD + yaml.safe_dump(manifest, sort_keys=False, width=120)


def generated() -> Iterator[tuple[Path, str]]:
    """Each file, and what it should hold. CRD templates must come before the manifests that show them."""
    for source in sorted((ROOT / "crds").glob("*.yaml")):
        yield CHART / "templates" / "crds" / source.name, crd_template(source.read_text())
    yield ROOT / "docs" / "resources.md", reference()
    yield CHART / "dashboards" / "s3gc.json", json.dumps(dashboard(), indent=1, ensure_ascii=False) + "\n"
    readme = CHART / "README.md"
    before, _, rest = readme.read_text().partition("| value | type | default | what |\n")
    after = rest[rest.index("\n\n") :] if "\n\n" in rest else "\n"
    yield readme, before + values_table().rstrip("\n") + after
    yield ROOT / "examples" / "gitops" / "argocd" / "argocd-cm.yaml", argocd_settings()
    helm = helm_binary()
    if helm is None:
        print("deploy/s3gc.yaml is not looked at: helm is not built (make tools)", file=sys.stderr)
    else:
        yield ROOT / "deploy" / "s3gc.yaml", plain_manifests(helm)
