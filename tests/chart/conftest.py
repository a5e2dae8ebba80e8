"""What the chart meets on a cluster that has the Prometheus operator: its kinds, with the fields that the chart uses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.testbed.kubernetes import Kubernetes

_TEXT = {"type": "string"}
_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


_ENDPOINTS = {
    "type": "array",
    "items": _object(port=_TEXT, path=_TEXT, interval=_TEXT, honorLabels={"type": "boolean"}),
}
_SELECTOR = _object(matchLabels=_STRINGS)
_RULES = {
    "type": "array",
    "items": _object(
        name=_TEXT,
        rules={
            "type": "array",
            "items": _object(
                **{"alert": _TEXT, "expr": _TEXT, "for": _TEXT, "labels": _STRINGS, "annotations": _STRINGS}
            ),
        },
    ),
}

KINDS = {
    "PodMonitor": ("podmonitors", _object(selector=_SELECTOR, podMetricsEndpoints=_ENDPOINTS)),
    "ServiceMonitor": ("servicemonitors", _object(selector=_SELECTOR, endpoints=_ENDPOINTS)),
    "PrometheusRule": ("prometheusrules", _object(groups=_RULES)),
}


def monitoring_crds() -> list[dict[str, Any]]:
    return [
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.monitoring.coreos.com"},
            "spec": {
                "group": "monitoring.coreos.com",
                "scope": "Namespaced",
                "names": {
                    "kind": kind,
                    "plural": plural,
                    "singular": kind.lower(),
                    "listKind": f"{kind}List",
                },
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {"openAPIV3Schema": _object(spec=spec)},
                    }
                ],
            },
        }
        for kind, (plural, spec) in KINDS.items()
    ]


@pytest.fixture(scope="module")
def monitored_api(private_api: Kubernetes) -> Kubernetes:
    """An API server of this module's own that knows the kinds of the Prometheus operator."""
    private_api.apply(*monitoring_crds())
    for plural, _ in KINDS.values():
        private_api.kubectl(
            "wait", "--for=condition=Established", f"crd/{plural}.monitoring.coreos.com", "--timeout=30s"
        )
    return private_api
