"""The chart as helm renders it, for the tests of its templates."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.testbed import tools

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "s3gc"

Manifest = dict[str, Any]


class RefusedError(Exception):
    """helm refused the values; the message is what it said."""


@functools.cache
def _render(values: str, namespace: str) -> str:
    command = [str(tools.binary("helm")), "template", "s3gc", str(CHART), "--namespace", namespace, "-f", "-"]
    done = subprocess.run(command, input=values, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RefusedError(done.stderr)
    return done.stdout


def render(values: dict[str, Any] | None = None, namespace: str = "operators") -> list[Manifest]:
    """Every manifest that the chart makes of these values."""
    text = _render(json.dumps(values or {}), namespace)
    return [each for each in yaml.safe_load_all(text) if each]


def nested(path: str, value: Any) -> dict[str, Any]:
    """`{"a": {"b": value}}` of `a.b`."""
    for part in reversed(path.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [each for each in manifests if each["kind"] == kind]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    found = of_kind(manifests, kind)
    assert len(found) == 1, f"{len(found)} of kind {kind}"
    return found[0]


def pod(manifests: list[Manifest]) -> Manifest:
    spec: Manifest = one(manifests, "Deployment")["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest]) -> Manifest:
    found: Manifest = pod(manifests)["containers"][0]
    return found


def environment(manifests: list[Manifest]) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in container(manifests)["env"]}
