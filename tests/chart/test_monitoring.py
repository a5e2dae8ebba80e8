"""Alerts and dashboard: PromQL that parses, over metrics that the operator has, each alert with its runbook."""

from __future__ import annotations

import json
import re
from typing import Any

import promql_parser
import pytest
import yaml

from s3gc.controller.metrics import Meters
from tests.chart.rendering import CHART, ROOT, one, render

RULES: list[dict[str, Any]] = yaml.safe_load((CHART / "alerts.yaml").read_text())["groups"][0]["rules"]
PANELS: list[dict[str, Any]] = json.loads((CHART / "dashboards" / "s3gc.json").read_text())["panels"]
RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text()

#: Grafana's own variables, which are no PromQL.
_GRAFANA = {"$__rate_interval": "5m", "$namespace": ".*", "$name": ".*"}


def _expressions() -> list[str]:
    found = [rule["expr"] for rule in RULES]
    for panel in PANELS:
        for target in panel["targets"]:
            text = target["expr"]
            for variable, value in _GRAFANA.items():
                text = text.replace(variable, value)
            found.append(text)
    return found


@pytest.mark.parametrize("expression", _expressions())
def test_each_expression_is_promql(expression: str) -> None:
    promql_parser.parse(expression)


def _served() -> set[str]:
    """The metrics that the operator serves, by its own registry."""
    text = Meters(lambda: (), version="1").text().decode()
    return set(re.findall(r"^# TYPE (s3gc_[a-z_]+) (?:counter|gauge|histogram)", text, re.MULTILINE))


def test_the_documentation_has_every_metric_and_no_other() -> None:
    documented = set(
        re.findall(r"^\| `(s3gc_[a-z_]+)", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    )
    assert documented == _served()


def test_each_metric_that_is_asked_for_is_one_that_the_operator_serves() -> None:
    named = set(re.findall(r"\b(s3gc_[a-z_]+)", " ".join(_expressions())))
    served = _served()
    assert {name if name in served else re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= served


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    name = rule["alert"]
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks.md#{name.lower()}"
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["description"]
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert f"\n## {name}\n" in RUNBOOKS


def test_no_runbook_is_without_an_alert() -> None:
    assert set(re.findall(r"^## (S3GC\w+)$", RUNBOOKS, re.MULTILINE)) == {rule["alert"] for rule in RULES}


def test_the_chart_ships_exactly_these_rules_with_the_runbooks_where_they_are() -> None:
    values = {"metrics": {"prometheusRule": {"enabled": True, "runbookURL": "https://wiki.example/s3gc"}}}
    shipped = one(render(values), "PrometheusRule")["spec"]["groups"][0]["rules"]
    for rule, mine in zip(shipped, RULES, strict=True):
        assert rule["annotations"].pop("runbook_url") == f"https://wiki.example/s3gc#{mine['alert'].lower()}"
        assert rule == {
            **mine,
            "annotations": {k: v for k, v in mine["annotations"].items() if k != "runbook_url"},
        }


def test_the_dashboard_is_shipped_as_it_is_and_no_panel_lies_on_another() -> None:
    made = render({"metrics": {"dashboard": {"enabled": True}}})
    assert json.loads(one(made, "ConfigMap")["data"]["s3gc.json"])["panels"] == PANELS
    taken: set[tuple[int, int]] = set()
    for panel in PANELS:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
