"""The Grafana dashboard, as a table of panels. `chartfiles` writes it into the chart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SELECTED = 'namespace=~"$namespace", name=~"$name"'


@dataclass(frozen=True)
class Panel:
    """One panel: its kind, what it shows, how wide it is (of 24), and the unit of its values."""

    title: str
    kind: str
    queries: dict[str, str]  # legend -> expression; SELECTED stands for the variables' selector
    unit: str = "short"
    width: int = 8
    description: str = ""
    thresholds: list[tuple[str, float | None]] = field(default_factory=lambda: [("green", None)])

    def json(self, number: int, x: int, y: int) -> dict[str, Any]:
        return {
            "id": number,
            "title": self.title,
            "description": self.description,
            "type": self.kind,
            "datasource": _SOURCE,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": 4 if self.kind == "stat" else 8},
            "fieldConfig": {
                "defaults": {
                    "unit": self.unit,
                    "thresholds": {
                        "mode": "absolute",
                        "steps": [{"color": color, "value": value} for color, value in self.thresholds],
                    },
                },
                "overrides": [],
            },
            "targets": [
                {
                    "refId": chr(ord("A") + index),
                    "datasource": _SOURCE,
                    "expr": expression.replace("SELECTED", _SELECTED),
                    "legendFormat": legend,
                }
                for index, (legend, expression) in enumerate(self.queries.items())
            ],
        }


_WHO = "{{namespace}}/{{name}}"

PANELS = (
    Panel(
        "Since the last success",
        "stat",
        {_WHO: "time() - s3gc_last_success_timestamp_seconds{SELECTED}"},
        "s",
        6,
        "Longer than two intervals of the schedule is an alert.",
    ),
    Panel(
        "Until the next cycle",
        "stat",
        {_WHO: "s3gc_next_run_timestamp_seconds{SELECTED} - time()"},
        "s",
        6,
    ),
    Panel(
        "Reclaimable",
        "stat",
        {_WHO: "s3gc_reclaimable_bytes{SELECTED}"},
        "bytes",
        6,
        "Bytes of the objects in the last plan.",
    ),
    Panel("Vault", "stat", {_WHO: "s3gc_vault_size_bytes{SELECTED}"}, "bytes", 6),
    Panel(
        "Cycles by outcome",
        "timeseries",
        {"{{outcome}}": "sum by (outcome) (increase(s3gc_cycles_total{SELECTED}[$__rate_interval]))"},
    ),
    Panel(
        "Duration of cycles (95 %)",
        "timeseries",
        {
            _WHO: "histogram_quantile(0.95, sum by (le, namespace, name) "
            "(rate(s3gc_cycle_duration_seconds_bucket{SELECTED}[1d])))"
        },
        "s",
    ),
    Panel(
        "Objects",
        "timeseries",
        {"{{action}}": "sum by (action) (increase(s3gc_objects_total{SELECTED}[$__rate_interval]))"},
        description="Scanned, found orphaned, backed up, deleted.",
    ),
    Panel(
        "Deleted bytes",
        "timeseries",
        {_WHO: "increase(s3gc_deleted_bytes_total{SELECTED}[$__rate_interval])"},
        "bytes",
    ),
    Panel(
        "Referenced late, and restored",
        "timeseries",
        {_WHO: "increase(s3gc_late_references_total{SELECTED}[$__rate_interval])"},
        description="Objects that came to be referenced after their deletion. They are back.",
        thresholds=[("green", None), ("orange", 1)],
    ),
    Panel(
        "Rows that name no object",
        "timeseries",
        {_WHO: "s3gc_missing_objects{SELECTED}"},
        description="Reported, never acted on.",
    ),
    Panel(
        "Operator: reconciles a second",
        "timeseries",
        {"{{kind}} {{result}}": "sum by (kind, result) (rate(s3gc_reconcile_duration_seconds_count[5m]))"},
        "ops",
    ),
    Panel(
        "Operator: time to reconcile (99 %)",
        "timeseries",
        {
            "{{kind}}": "histogram_quantile(0.99, sum by (le, kind) "
            "(rate(s3gc_reconcile_duration_seconds_bucket[5m])))"
        },
        "s",
    ),
    Panel("Operator: version", "stat", {"{{version}}": "s3gc_build_info"}, "none"),
)


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "current": {"text": "All", "value": "$__all"},
    }


def dashboard() -> dict[str, Any]:
    panels, x, y, height = [], 0, 0, 0
    for number, panel in enumerate(PANELS, 1):
        if x + panel.width > 24:
            x, y, height = 0, y + height, 0
        panels.append(panel.json(number, x, y))
        x, height = x + panel.width, max(height, panels[-1]["gridPos"]["h"])
    return {
        "uid": "s3gc",
        "title": "s3gc",
        "tags": ["s3gc"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "1m",
        "time": {"from": "now-7d", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                _variable("namespace", "label_values(s3gc_cycles_total, namespace)"),
                _variable("name", 'label_values(s3gc_cycles_total{namespace=~"$namespace"}, name)'),
            ]
        },
        "panels": panels,
    }
