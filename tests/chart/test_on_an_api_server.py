"""The chart on a real API server: what it makes is accepted, what its rights allow, and what an uninstall leaves."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, ROOT, Manifest, one, render
from tests.testbed.kubernetes import RESTRICTED, Kubernetes, KubernetesError

EVERYTHING: dict[str, Any] = {
    "networkPolicy": {"enabled": True},
    "metrics": {
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
SERVICE_MONITOR: dict[str, Any] = {"metrics": {"serviceMonitor": {"enabled": True}}}


def _as_pod(made: list[Manifest]) -> Manifest:
    template = one(made, "Deployment")["spec"]["template"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "operator"},
        "spec": template["spec"],
    }


@pytest.mark.parametrize("values", [{}, EVERYTHING, SERVICE_MONITOR, {"hostNetwork": True}], ids=str)
def test_everything_that_the_chart_makes_is_accepted(
    monitored_api: Kubernetes, values: dict[str, Any]
) -> None:
    with monitored_api.namespace("dry", RESTRICTED) as namespace:
        made = render(values, namespace)
        text = yaml.safe_dump_all(made)
        said = monitored_api.kubectl(
            "apply",
            "--server-side",
            "--dry-run=server",
            "--validate=strict",
            "-n",
            namespace,
            "-f",
            "-",
            text=text,
        )
        assert said.count("serverside-applied") == len(made)


def test_its_pod_is_let_into_a_namespace_for_restricted_pods_only(monitored_api: Kubernetes) -> None:
    with monitored_api.namespace("pods", RESTRICTED) as namespace:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s3gc"}}
        monitored_api.apply(account, words=["-n", namespace])
        monitored_api.apply(_as_pod(render()), words=["-n", namespace, "--dry-run=server"])
        with pytest.raises(KubernetesError, match="restricted"):  # and the test can fail
            monitored_api.apply(
                _as_pod(render({"hostNetwork": True})), words=["-n", namespace, "--dry-run=server"]
            )


def test_the_plain_manifests_are_accepted(monitored_api: Kubernetes) -> None:
    path = ROOT / "deploy" / "s3gc.yaml"
    wanted = [each for each in yaml.safe_load_all(path.read_text()) if each]
    # The namespace has to be there before what is in it, also in a dry run.
    monitored_api.apply(wanted[0])
    said = monitored_api.kubectl(
        "apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", str(path)
    )
    assert said.count("serverside-applied") == len(wanted)
    said = monitored_api.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(path))
    assert len(said.splitlines()) == len(wanted)
    monitored_api.kubectl("delete", "namespace", "s3gc", "--wait=false")


# --- rights -----------------------------------------------------------------------------------

MAY = [
    ("get", "bucketgcs.s3gc.dev"),
    ("list", "bucketgcs.s3gc.dev"),
    ("watch", "gcrestores.s3gc.dev"),
    ("patch", "bucketgcs.s3gc.dev/status"),
    ("patch", "gcrestores.s3gc.dev/status"),
    ("create", "jobs.batch"),
    ("delete", "jobs.batch"),
    ("watch", "jobs.batch"),
    ("list", "pods"),
    ("get", "pods/log"),
    ("create", "events"),
]
MAY_NOT = [
    ("get", "secrets"),
    ("list", "secrets"),
    ("watch", "secrets"),
    ("create", "secrets"),
    ("get", "configmaps"),
    ("create", "pods"),
    ("create", "pods/exec"),
    ("delete", "pods"),
    ("patch", "bucketgcs.s3gc.dev"),
    ("update", "bucketgcs.s3gc.dev"),
    ("delete", "bucketgcs.s3gc.dev"),
    ("create", "gcrestores.s3gc.dev"),
    ("update", "jobs.batch"),
    ("patch", "jobs.batch"),
    ("create", "serviceaccounts/token"),
    ("get", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "rolebindings.rbac.authorization.k8s.io"),
    ("impersonate", "users"),
    ("list", "nodes"),
]


def _may(cluster: Kubernetes, who: str, namespace: str, verb: str, resource: str) -> bool:
    plain, _, sub = resource.partition("/")
    words = ["auth", "can-i", verb, plain, f"--as={who}", "-n", namespace]
    answer = cluster.kubectl(*words, *([f"--subresource={sub}"] if sub else []), check=False)
    return answer.strip().splitlines()[-1].startswith("yes")


def _apply(cluster: Kubernetes, made: list[Manifest], *kinds: str) -> None:
    cluster.apply(*(each for each in made if each["kind"] in kinds))


RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


def test_the_operator_may_do_its_work_in_every_namespace_and_nothing_else(monitored_api: Kubernetes) -> None:
    with monitored_api.namespace("op") as own, monitored_api.namespace("shop") as shop:
        made = render({"fullnameOverride": own}, own)
        _apply(monitored_api, made, "CustomResourceDefinition", *RIGHTS)
        who = f"system:serviceaccount:{own}:{own}"
        monitored_api.eventually("its rights", lambda: _may(monitored_api, who, shop, "list", "pods"))
        refused = [pair for pair in MAY if not _may(monitored_api, who, shop, *pair)]
        assert refused == []
        allowed = [pair for pair in MAY_NOT if _may(monitored_api, who, shop, *pair)]
        assert allowed == []
        monitored_api.kubectl("delete", "clusterrole,clusterrolebinding", own)


def _job(name: str, labels: dict[str, str], owners: list[Manifest], **pod: Any) -> Manifest:
    container = {"name": "c", "image": "none.example/none"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels, "ownerReferences": owners},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container], **pod}},
        },
    }


def test_the_operator_touches_jobs_of_its_own_alone(monitored_api: Kubernetes) -> None:
    api = monitored_api
    with api.namespace("op") as own, api.namespace("shop") as shop:
        made = render({"fullnameOverride": own}, own)
        policy = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        _apply(api, made, "CustomResourceDefinition", *RIGHTS, *policy)
        who = f"system:serviceaccount:{own}:{own}"
        api.apply(BUCKETGC, words=["-n", shop])
        uid = api.get("bgc", "media", "-n", shop)["metadata"]["uid"]
        mine = {"app.kubernetes.io/managed-by": "s3gc"}
        owner = {
            "apiVersion": "s3gc.dev/v1",
            "kind": "BucketGC",
            "name": "media",
            "uid": uid,
            "controller": True,
        }
        tokenless: dict[str, Any] = {"automountServiceAccountToken": False}
        backup = _job("nightly-backup", {"app": "backup"}, [])
        disguised = _job("disguised", mine, [])
        api.apply(backup, disguised, words=["-n", shop])

        def asks(*words: str, job: Manifest | None = None) -> str:
            """What the API server says to the operator's account; empty where it does what is asked."""
            text = None if job is None else json.dumps(job)
            try:
                api.kubectl(*words, "-n", shop, f"--as={who}", text=text)
            except KubernetesError as error:
                return str(error)
            return ""

        def creates(job: Manifest, *words: str) -> str:
            return asks("create", "-f", "-", *words, job=job)

        # A policy is in force a moment after it was made; until then nothing may be created by mistake.
        other = _job("other", {}, [owner])
        api.eventually("the policy", lambda: "of its own alone" in creates(other, "--dry-run=server"))
        assert "of its own alone" in creates(other)
        assert "managed-by=s3gc" in asks("delete", "job", "nightly-backup", "--wait=false")
        assert "controls" in asks("delete", "job", "disguised", "--wait=false")
        assert "controls" in creates(_job("unowned", mine, [], **tokenless))
        assert "token" in creates(_job("with-token", mine, [owner]))
        host = {"name": "node", "hostPath": {"path": "/"}}
        assert "folder of the node" in creates(
            _job("on-the-node", mine, [owner], volumes=[host], **tokenless)
        )
        for words in (
            ("get", "secrets"),
            ("create", "configmap", "anything"),
            ("label", "job", "nightly-backup", "app.kubernetes.io/managed-by=s3gc"),
            ("patch", "job", "nightly-backup", "-p", '{"spec": {"suspend": false}}'),
        ):
            assert "forbidden" in asks(*words).lower(), words
        names = [each["metadata"]["name"] for each in api.get("jobs", "-n", shop)["items"]]
        assert sorted(names) == ["disguised", "nightly-backup"]
        # Its own work goes through, and nobody else is asked anything.
        assert creates(_job("media-29000000", mine, [owner], **tokenless)) == ""
        assert asks("delete", "job", "media-29000000", "--wait=false") == ""
        api.kubectl("delete", "job", "nightly-backup", "-n", shop, "--wait=false")
        api.kubectl("delete", "clusterrole,clusterrolebinding", own)
        api.kubectl("delete", ",".join(kind.lower() for kind in policy), f"{own}.{own}")


def test_an_operator_of_some_namespaces_may_nothing_in_another(monitored_api: Kubernetes) -> None:
    with (
        monitored_api.namespace("op") as own,
        monitored_api.namespace("shop") as shop,
        monitored_api.namespace("other") as other,
    ):
        made = render({"watch": {"namespaces": [shop]}, "rbac": {"userRoles": False}}, own)
        assert not [each for each in made if each["kind"].startswith("ClusterRole")]
        _apply(monitored_api, made, "CustomResourceDefinition", *RIGHTS)
        who = f"system:serviceaccount:{own}:s3gc"
        monitored_api.eventually("its rights", lambda: _may(monitored_api, who, shop, "list", "pods"))
        assert [pair for pair in MAY if not _may(monitored_api, who, shop, *pair)] == []
        assert [pair for pair in MAY_NOT if _may(monitored_api, who, shop, *pair)] == []
        assert [pair for pair in MAY if _may(monitored_api, who, other, *pair)] == []


def test_who_views_or_edits_a_namespace_views_or_edits_its_bucketgcs(monitored_api: Kubernetes) -> None:
    with monitored_api.namespace("team") as namespace:
        _apply(monitored_api, render(namespace=namespace), "CustomResourceDefinition", "ClusterRole")
        for role in ("view", "edit", "admin"):
            monitored_api.kubectl(
                "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}", "-n", namespace
            )

        def can(who: str, verb: str, resource: str = "bucketgcs.s3gc.dev") -> bool:
            return _may(monitored_api, who, namespace, verb, resource)

        monitored_api.eventually("aggregated rights", lambda: can("view", "get") and can("edit", "create"))
        assert not any(can("view", verb) for verb in ("create", "update", "patch", "delete"))
        for who in ("edit", "admin"):
            assert all(can(who, verb) for verb in ("get", "watch", "create", "update", "patch", "delete"))
            assert can(who, "create", "gcrestores.s3gc.dev")
            assert not can(who, "patch", "bucketgcs.s3gc.dev/status")
        assert not can("view", "get", "secrets")


# --- install, upgrade, uninstall --------------------------------------------------------------

BUCKETGC = {
    "apiVersion": "s3gc.dev/v1",
    "kind": "BucketGC",
    "metadata": {"name": "media"},
    "spec": {
        "bucket": {"name": "shop-media"},
        "references": [
            {
                "name": "shop",
                "database": {"urlSecretRef": {"name": "shop-db", "key": "url"}},
                "tables": [{"table": "public.users", "columns": [{"name": "avatar_url"}]}],
            }
        ],
        "mode": "DryRun",
        "vault": {"persistentVolumeClaim": {"claimName": "vault"}},
    },
}


def _release(cluster: Kubernetes, verb: str, namespace: str, *words: str) -> str:
    return cluster.helm(verb, "s3gc", str(CHART), "--namespace", namespace, *words)


def test_install_upgrade_and_uninstall_leave_every_bucketgc(monitored_api: Kubernetes) -> None:
    api = monitored_api
    with api.namespace("helm", RESTRICTED) as namespace:
        api.kubectl("delete", "crd,clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/name=s3gc")
        said = _release(api, "install", namespace)
        assert "kubectl get bgc" in said
        api.kubectl("wait", "--for=condition=Established", "crd/bucketgcs.s3gc.dev", "--timeout=30s")
        api.apply(BUCKETGC, words=["-n", namespace])
        before = api.get("bgc", "media", "-n", namespace)["metadata"]["uid"]

        _release(
            api,
            "upgrade",
            namespace,
            "--set",
            "operator.resyncSeconds=60",
            "--set",
            "networkPolicy.enabled=true",
        )
        environment = api.get("deployment", "s3gc", "-n", namespace)["spec"]["template"]["spec"][
            "containers"
        ][0]["env"]
        assert {"name": "S3GC_OPERATOR_RESYNC_SECONDS", "value": "60"} in environment
        assert api.get("networkpolicy", "s3gc", "-n", namespace)

        api.helm("uninstall", "s3gc", "--namespace", namespace)
        assert api.get("bgc", "media", "-n", namespace)["metadata"]["uid"] == before
        gone = api.get(
            "deployment,service,serviceaccount,networkpolicy",
            "-n",
            namespace,
            "-l",
            "app.kubernetes.io/name=s3gc",
        )
        assert gone["items"] == []
        assert api.get("clusterrole,clusterrolebinding", "-l", "app.kubernetes.io/name=s3gc")["items"] == []

        _release(api, "install", namespace)  # once more, over the CRDs that stayed
        assert api.get("bgc", "media", "-n", namespace)["metadata"]["uid"] == before

        _release(api, "upgrade", namespace, "--set", "crds.keep=false")
        api.helm("uninstall", "s3gc", "--namespace", namespace)
        # Helm only asks for it; the server first deletes what is of their kind.
        api.eventually("no CRD", lambda: not api.get("crd", "-l", "app.kubernetes.io/name=s3gc")["items"])


def test_a_crd_is_small_enough_for_a_client_side_apply() -> None:
    """`kubectl apply` keeps what it applied in an annotation, and an object's annotations hold at most 256 KiB."""
    for path in (ROOT / "crds").glob("*.yaml"):
        assert len(json.dumps(yaml.safe_load(path.read_text()))) < 200_000
