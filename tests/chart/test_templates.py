"""Every value of the chart both ways: what the templates make of its default, and of another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.chart.rendering import (
    CHART,
    Manifest,
    RefusedError,
    container,
    environment,
    nested,
    of_kind,
    one,
    pod,
    render,
)

Look = Callable[[list[Manifest]], Any]
Values = dict[str, Any]

ON = {"metrics": {"podMonitor": {"enabled": True}}}
SERVICE_MONITOR = {"metrics": {"serviceMonitor": {"enabled": True}}}
RULE = {"metrics": {"prometheusRule": {"enabled": True}}}
DASHBOARD = {"metrics": {"dashboard": {"enabled": True}}}
POLICY = {"networkPolicy": {"enabled": True}}


def _labels(kind: str) -> Look:
    return lambda made: one(made, kind)["metadata"]["labels"]


def _count(kind: str) -> Look:
    return lambda made: len(of_kind(made, kind))


def _kept(made: list[Manifest]) -> set[str | None]:
    return {
        each["metadata"].get("annotations", {}).get("helm.sh/resource-policy")
        for each in of_kind(made, "CustomResourceDefinition")
    }


def _port_everywhere(made: list[Manifest]) -> Any:
    return (
        container(made)["ports"][0]["containerPort"],
        one(made, "Service")["spec"]["ports"][0]["port"],
        environment(made)["S3GC_OPERATOR_LISTEN"].rpartition(":")[2],
    )


def _bound(made: list[Manifest]) -> Any:
    return sorted(
        (each["kind"], each["metadata"].get("namespace", ""))
        for each in made
        if each["kind"] in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
        and not each["metadata"]["name"].endswith(("-view", "-edit"))
    )


def _operator_roles(made: list[Manifest]) -> int:
    return len(of_kind(made, "ClusterRoleBinding")) + len(of_kind(made, "RoleBinding"))


WHOLE_CLUSTER = [("ClusterRole", ""), ("ClusterRoleBinding", "")]
TWO_NAMESPACES = [("Role", "a"), ("Role", "b"), ("RoleBinding", "a"), ("RoleBinding", "b")]
SECRET = [{"name": "pull"}]
MOUNT = {"name": "ca", "mountPath": "/ca"}
GRAFANA = {"grafana_folder": "Storage"}

#: value -> what to look at, what its default makes of it, another value, what that makes, other values needed for both
CASES: dict[str, tuple[Look, Any, Any, Any, Values]] = {
    "image.repository": (
        lambda m: container(m)["image"],
        "s3gc:0.1.0",
        "r.example/x",
        "r.example/x:0.1.0",
        {},
    ),
    "image.tag": (lambda m: container(m)["image"], "s3gc:0.1.0", "main", "s3gc:main", {}),
    "image.digest": (
        lambda m: environment(m)["S3GC_OPERATOR_JOB_IMAGE"],
        "s3gc:0.1.0",
        f"sha256:{'a' * 64}",
        f"s3gc@sha256:{'a' * 64}",
        {},
    ),
    "image.pullPolicy": (
        lambda m: (container(m)["imagePullPolicy"], environment(m)["S3GC_OPERATOR_JOB_IMAGE_PULL_POLICY"]),
        ("IfNotPresent", "IfNotPresent"),
        "Never",
        ("Never", "Never"),
        {},
    ),
    "imagePullSecrets": (lambda m: pod(m).get("imagePullSecrets"), None, SECRET, SECRET, {}),
    "nameOverride": (lambda m: _labels("Deployment")(m)["app.kubernetes.io/name"], "s3gc", "gc", "gc", {}),
    "fullnameOverride": (
        lambda m: (one(m, "Deployment")["metadata"]["name"], one(m, "ClusterRoleBinding")["roleRef"]["name"]),
        ("s3gc", "s3gc"),
        "cleaner",
        ("cleaner", "cleaner"),
        {},
    ),
    "commonLabels": (
        lambda m: {each["metadata"]["labels"].get("team") for each in m},
        {None},
        {"team": "storage"},
        {"storage"},
        {},
    ),
    "watch.namespaces": (
        lambda m: (_bound(m), environment(m).get("S3GC_OPERATOR_NAMESPACES")),
        (WHOLE_CLUSTER, None),
        ["a", "b"],
        (TWO_NAMESPACES, "a,b"),
        {},
    ),
    "rbac.create": (_operator_roles, 1, False, 0, {}),
    "rbac.userRoles": (_count("ClusterRole"), 3, False, 1, {}),
    "rbac.admissionPolicy": (
        lambda m: (_count("ValidatingAdmissionPolicy")(m), _count("ValidatingAdmissionPolicyBinding")(m)),
        (1, 1),
        False,
        (0, 0),
        {},
    ),
    "serviceAccount.create": (
        lambda m: (_count("ServiceAccount")(m), pod(m)["serviceAccountName"]),
        (1, "s3gc"),
        False,
        (0, "default"),
        {},
    ),
    "serviceAccount.name": (
        lambda m: (
            one(m, "ServiceAccount")["metadata"]["name"],
            pod(m)["serviceAccountName"],
            one(m, "ClusterRoleBinding")["subjects"][0]["name"],
        ),
        ("s3gc", "s3gc", "s3gc"),
        "mine",
        ("mine", "mine", "mine"),
        {},
    ),
    "serviceAccount.annotations": (
        lambda m: one(m, "ServiceAccount")["metadata"].get("annotations"),
        None,
        {"a": "b"},
        {"a": "b"},
        {},
    ),
    "crds.install": (_count("CustomResourceDefinition"), 2, False, 0, {}),
    "crds.keep": (_kept, {"keep"}, False, {None}, {}),
    "operator.resyncSeconds": (
        lambda m: environment(m)["S3GC_OPERATOR_RESYNC_SECONDS"],
        "300",
        3600,
        "3600",
        {},
    ),
    "operator.progressSeconds": (
        lambda m: environment(m)["S3GC_OPERATOR_PROGRESS_SECONDS"],
        "30",
        5,
        "5",
        {},
    ),
    "operator.debug": (lambda m: environment(m).get("S3GC_DEBUG"), None, True, "1", {}),
    "jobs.image": (lambda m: environment(m)["S3GC_OPERATOR_JOB_IMAGE"], "s3gc:0.1.0", "jobs:2", "jobs:2", {}),
    "jobs.fsGroup": (lambda m: environment(m)["S3GC_OPERATOR_JOB_FS_GROUP"], "65532", 0, "", {}),
    "jobs.defaults": (
        lambda m: json.loads(environment(m).get("S3GC_OPERATOR_JOB_DEFAULTS", "{}")),
        {},
        {"nodeSelector": {"disk": "ssd"}},
        {"nodeSelector": {"disk": "ssd"}},
        {},
    ),
    "port": (_port_everywhere, (8080, 8080, "8080"), 9443, (9443, 9443, "9443"), {}),
    "listenAddress": (
        lambda m: environment(m)["S3GC_OPERATOR_LISTEN"],
        "0.0.0.0:8080",
        "127.0.0.1",
        "127.0.0.1:8080",
        {},
    ),
    "hostNetwork": (
        lambda m: (pod(m).get("hostNetwork"), pod(m).get("dnsPolicy")),
        (None, None),
        True,
        (True, "ClusterFirstWithHostNet"),
        {},
    ),
    "dnsPolicy": (lambda m: pod(m).get("dnsPolicy"), None, "Default", "Default", {}),
    "extraEnv": (
        lambda m: environment(m).get("HTTPS_PROXY"),
        None,
        [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
        "http://proxy:3128",
        {},
    ),
    "extraVolumes": (
        lambda m: [each["name"] for each in pod(m)["volumes"]],
        ["tmp"],
        [{"name": "ca", "configMap": {"name": "ca"}}],
        ["tmp", "ca"],
        {},
    ),
    "extraVolumeMounts": (
        lambda m: [each["name"] for each in container(m)["volumeMounts"]],
        ["tmp"],
        [MOUNT],
        ["tmp", "ca"],
        {},
    ),
    "podLabels": (
        lambda m: one(m, "Deployment")["spec"]["template"]["metadata"]["labels"].get("a"),
        None,
        {"a": "b"},
        "b",
        {},
    ),
    "podAnnotations": (
        lambda m: one(m, "Deployment")["spec"]["template"]["metadata"]["annotations"].get("a"),
        None,
        {"a": "b"},
        "b",
        {},
    ),
    "priorityClassName": (lambda m: pod(m).get("priorityClassName"), None, "high", "high", {}),
    "nodeSelector": (lambda m: pod(m).get("nodeSelector"), None, {"a": "b"}, {"a": "b"}, {}),
    "tolerations": (
        lambda m: pod(m).get("tolerations"),
        None,
        [{"operator": "Exists"}],
        [{"operator": "Exists"}],
        {},
    ),
    "affinity": (lambda m: pod(m).get("affinity"), None, {"nodeAffinity": {}}, {"nodeAffinity": {}}, {}),
    "terminationGracePeriodSeconds": (lambda m: pod(m)["terminationGracePeriodSeconds"], 30, 60, 60, {}),
    "resources": (
        lambda m: container(m)["resources"]["limits"],
        {"memory": "512Mi"},
        {"limits": {"memory": "1Gi"}},
        {"memory": "1Gi"},
        {},
    ),
    "podSecurityContext": (
        lambda m: pod(m)["securityContext"]["runAsUser"],
        65532,
        {"runAsUser": 1000700000},
        1000700000,
        {},
    ),
    "securityContext": (
        lambda m: container(m)["securityContext"]["readOnlyRootFilesystem"],
        True,
        {"readOnlyRootFilesystem": False},
        False,
        {},
    ),
    "livenessProbe": (
        lambda m: (
            container(m)["livenessProbe"]["httpGet"]["path"],
            container(m)["livenessProbe"]["failureThreshold"],
        ),
        ("/healthz", 6),
        {"failureThreshold": 9},
        ("/healthz", 9),
        {},
    ),
    "readinessProbe": (
        lambda m: (
            container(m)["readinessProbe"]["httpGet"]["path"],
            container(m)["readinessProbe"]["periodSeconds"],
        ),
        ("/readyz", 5),
        {"periodSeconds": 7},
        ("/readyz", 7),
        {},
    ),
    "networkPolicy.enabled": (_count("NetworkPolicy"), 0, True, 1, {}),
    "networkPolicy.apiServerPorts": (
        lambda m: [each["port"] for each in one(m, "NetworkPolicy")["spec"]["egress"][0]["ports"]],
        [443, 6443],
        [8443],
        [8443],
        POLICY,
    ),
    "networkPolicy.metricsFrom": (
        lambda m: one(m, "NetworkPolicy")["spec"]["ingress"][0].get("from"),
        None,
        [{"podSelector": {}}],
        [{"podSelector": {}}],
        POLICY,
    ),
    "metrics.service.enabled": (_count("Service"), 1, False, 0, {}),
    "metrics.service.annotations": (
        lambda m: one(m, "Service")["metadata"].get("annotations"),
        None,
        {"prometheus.io/scrape": "true"},
        {"prometheus.io/scrape": "true"},
        {},
    ),
    "metrics.podMonitor.enabled": (_count("PodMonitor"), 0, True, 1, {}),
    "metrics.podMonitor.interval": (
        lambda m: one(m, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["interval"],
        "30s",
        "1m",
        "1m",
        ON,
    ),
    "metrics.podMonitor.labels": (lambda m: _labels("PodMonitor")(m).get("a"), None, {"a": "b"}, "b", ON),
    "metrics.serviceMonitor.enabled": (_count("ServiceMonitor"), 0, True, 1, {}),
    "metrics.serviceMonitor.interval": (
        lambda m: one(m, "ServiceMonitor")["spec"]["endpoints"][0]["interval"],
        "30s",
        "1m",
        "1m",
        SERVICE_MONITOR,
    ),
    "metrics.serviceMonitor.labels": (
        lambda m: _labels("ServiceMonitor")(m).get("a"),
        None,
        {"a": "b"},
        "b",
        SERVICE_MONITOR,
    ),
    "metrics.prometheusRule.enabled": (_count("PrometheusRule"), 0, True, 1, {}),
    "metrics.prometheusRule.labels": (
        lambda m: _labels("PrometheusRule")(m).get("a"),
        None,
        {"a": "b"},
        "b",
        RULE,
    ),
    "metrics.prometheusRule.runbookURL": (
        lambda m: {
            rule["annotations"]["runbook_url"].partition("#")[0]
            for rule in one(m, "PrometheusRule")["spec"]["groups"][0]["rules"]
        },
        {"docs/runbooks.md"},
        "https://wiki.example/s3gc",
        {"https://wiki.example/s3gc"},
        RULE,
    ),
    "metrics.dashboard.enabled": (_count("ConfigMap"), 0, True, 1, {}),
    "metrics.dashboard.labels": (
        lambda m: _labels("ConfigMap")(m).get("grafana_dashboard"),
        "1",
        {"grafana_dashboard": "yes"},
        "yes",
        DASHBOARD,
    ),
    "metrics.dashboard.annotations": (
        lambda m: one(m, "ConfigMap")["metadata"].get("annotations"),
        None,
        GRAFANA,
        GRAFANA,
        DASHBOARD,
    ),
}


def _merged(first: Values, second: Values) -> Values:
    result = dict(first)
    for key, value in second.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result


@pytest.mark.parametrize("value", CASES)
def test_a_value_does_what_it_says_and_its_default_too(value: str) -> None:
    look, by_default, changed, then, needed = CASES[value]
    assert look(render(needed)) == by_default
    assert look(render(_merged(needed, nested(value, changed)))) == then


def _leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, part in schema["properties"].items():
        closed = part.get("additionalProperties") is False and not name.endswith("Probe")
        if closed and "properties" in part:
            yield from _leaves(part, f"{path}{name}.")
        elif name != "global":
            yield f"{path}{name}"


SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_every_value_has_a_case_a_default_and_a_description() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(_leaves(SCHEMA)) == set(CASES)
    for path in _leaves(SCHEMA):
        here: Any = values
        for part in path.split("."):
            assert part in here, f"{path} has no default in values.yaml"
            here = here[part]


UNKNOWN = [
    "replicas",
    "image.repo",
    "rbac.clusterAdmin",
    "crds.enabled",
    "metrics.enabled",
    "metrics.podMonitor.x",
]
WRONG: list[tuple[str, Any]] = [
    ("port", 0),
    ("port", "8080"),
    ("image.repository", ""),
    ("image.digest", "sha256:short"),
    ("image.pullPolicy", "Sometimes"),
    ("watch.namespaces", "shop"),
    ("watch.namespaces", ["Shop"]),
    ("watch.namespaces", ["a", "a"]),
    ("operator.resyncSeconds", 0),
    ("terminationGracePeriodSeconds", 1),
    ("metrics.podMonitor.interval", "often"),
    ("commonLabels", {"a": 1}),
    ("extraEnv", [{"value": "no name"}]),
]


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_value_is_refused(path: str) -> None:
    with pytest.raises(RefusedError, match="additional properties|not allowed"):
        render(nested(path, True))


@pytest.mark.parametrize(("path", "value"), WRONG)
def test_a_wrong_value_is_refused_naming_where(path: str, value: Any) -> None:
    with pytest.raises(RefusedError) as refusal:
        render(nested(path, value))
    assert path.split(".")[0] in str(refusal.value)


def test_the_operator_is_not_scraped_twice_and_not_by_a_service_that_is_not_there() -> None:
    with pytest.raises(RefusedError, match="twice"):
        render(_merged(ON, SERVICE_MONITOR))
    with pytest.raises(RefusedError, match=r"needs metrics\.service\.enabled"):
        render({"metrics": {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}}})


def test_a_probe_asks_where_a_pod_on_the_hosts_network_listens() -> None:
    made = render({"hostNetwork": True, "listenAddress": "127.0.0.1"})
    assert container(made)["livenessProbe"]["httpGet"]["host"] == "127.0.0.1"
    assert container(made)["readinessProbe"]["httpGet"]["host"] == "127.0.0.1"
    assert "host" not in container(render())["livenessProbe"]["httpGet"]


def test_metrics_keep_the_namespace_of_the_bucketgc() -> None:
    assert one(render(ON), "PodMonitor")["spec"]["podMetricsEndpoints"][0]["honorLabels"] is True
    assert one(render(SERVICE_MONITOR), "ServiceMonitor")["spec"]["endpoints"][0]["honorLabels"] is True


def test_selectors_find_the_pod_and_change_with_no_value_but_the_names() -> None:
    made = render(
        _merged(ON, {"networkPolicy": {"enabled": True}, "podLabels": {"x": "y"}, "commonLabels": {"v": "1"}})
    )
    deployment = one(made, "Deployment")["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    selectors = [
        deployment["selector"]["matchLabels"],
        one(made, "Service")["spec"]["selector"],
        one(made, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        one(made, "PodMonitor")["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert set(selector) == {
            "app.kubernetes.io/name",
            "app.kubernetes.io/instance",
            "app.kubernetes.io/component",
        }


def test_two_operators_never_run_by_the_deployments_own_doing() -> None:
    spec = one(render(), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_notes_say_where_it_runs_and_what_to_do_next() -> None:
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    for word in ("kubectl get bgc", "s3gc.dev/run-requested-at", "s3gc.dev/approve", "examples/kubernetes/"):
        assert word in notes


def test_chart_and_project_have_one_version() -> None:
    import tomllib

    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == project["version"]
