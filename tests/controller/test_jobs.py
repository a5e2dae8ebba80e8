"""The Jobs: their names, what they carry, and what they never carry."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s3gc.controller.jobs import (
    JobSettings,
    cycle_job,
    cycle_job_name,
    policy_json,
    restore_arguments,
    restore_job,
)
from s3gc.controller.observe import Trigger, read_job
from s3gc.controller.resources import GCObject
from s3gc.controller.vaults import vault_id
from s3gc.manifest import JobSpec
from s3gc.policy import load_policy, policy_from_environment
from tests.controller.kubelet import started
from tests.controller.made import DIGEST, NOW, OPERATION, at, bucketgc, gcrestore

SETTINGS = JobSettings("registry.example/s3gc:1", "IfNotPresent")
S3_VAULT = {"s3": {"bucket": "shop-vault", "prefix": "media/", "credentialsSecretRef": {"name": "vault"}}}


def made(gc: GCObject | None = None, settings: JobSettings = SETTINGS, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {"trigger": Trigger.REQUEST, "token": "one", **changes}
    return cycle_job(gc or bucketgc(), settings, now=NOW, **values)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = job["spec"]["template"]["spec"]
    return spec


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(job)["containers"]
    assert isinstance(container, dict)
    return container


def variables_of(job: dict[str, Any]) -> dict[str, Any]:
    return {each["name"]: each for each in container_of(job)["env"]}


# --- names


def test_a_name_is_its_decisions_and_the_same_whenever_it_is_made() -> None:
    assert cycle_job_name("media", Trigger.SCHEDULE, at=at("02:30")) == "media-29923350"
    assert cycle_job_name("media", Trigger.SCHEDULE, at=at("02:31")) == "media-29923351"
    assert cycle_job_name("media", Trigger.APPROVAL, token=DIGEST) == f"media-a{DIGEST[:8]}"
    request = cycle_job_name("media", Trigger.REQUEST, token="one")
    assert request.startswith("media-r")
    assert len(request) == len("media-r") + 8
    assert request != cycle_job_name("media", Trigger.REQUEST, token="two")


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300))
def test_a_name_of_the_longest_policy_and_any_token_is_one_that_kubernetes_takes(token: str) -> None:
    for name in (
        cycle_job_name("m" * 40, Trigger.REQUEST, token=token),
        cycle_job_name("m" * 40, Trigger.SCHEDULE, at=at("2099-12-31 23:59")),
        cycle_job_name("m" * 40, Trigger.APPROVAL, token=DIGEST),
    ):
        assert len(name) <= 63 - len("-abcde")
        assert name.replace("-", "").isalnum()
        assert name.islower() or name.isascii()


# --- what a Job is


def test_a_job_belongs_to_its_policy_and_says_why_it_runs() -> None:
    gc = bucketgc(generation=7)
    job = made(gc, trigger=Trigger.SCHEDULE, scheduled_at=at("02:30"), token="")
    (owner,) = job["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["controller"]) == ("BucketGC", gc.meta.uid, True)
    assert owner["blockOwnerDeletion"] is False
    view = read_job(job)
    assert view.trigger == "Schedule"
    assert view.scheduled_at == at("02:30")
    assert gc.spec is not None
    assert view.vault == vault_id(gc.spec, "shop")
    assert job["metadata"]["annotations"]["s3gc.dev/generation"] == "7"
    labels = job["metadata"]["labels"]
    assert labels.items() <= job["spec"]["template"]["metadata"]["labels"].items()
    assert labels["app.kubernetes.io/managed-by"] == "s3gc"
    assert labels["s3gc.dev/bucketgc"] == "media"


def test_two_pods_never_work_side_by_side_and_what_cannot_change_is_not_tried_again() -> None:
    spec = made()["spec"]
    assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (1, 1, 2)
    assert spec["podReplacementPolicy"] == "Failed"
    fail, ignore = spec["podFailurePolicy"]["rules"]
    assert (fail["action"], fail["onExitCodes"]["values"]) == ("FailJob", [2, 3, 4])
    assert (ignore["action"], ignore["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert pod_of(made())["restartPolicy"] == "Never"


def test_a_pod_is_restricted() -> None:
    job = made()
    pod, container = pod_of(job), container_of(job)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "hostNetwork" not in pod
    assert pod["terminationGracePeriodSeconds"] == 120


def test_a_claim_is_mounted_where_the_engine_looks_for_it() -> None:
    job = made()
    mounts = {each["name"]: each["mountPath"] for each in container_of(job)["volumeMounts"]}
    assert mounts == {"tmp": "/tmp", "work": "/work", "vault": "/vault"}
    assert pod_of(job)["volumes"][-1] == {"name": "vault", "persistentVolumeClaim": {"claimName": "vault"}}
    assert pod_of(job)["securityContext"]["fsGroup"] == 65532
    assert "fsGroup" not in pod_of(made(settings=JobSettings("i", fs_group=None)))["securityContext"]


def test_a_vault_in_s3_needs_no_volume_and_no_group() -> None:
    job = made(bucketgc(vault=S3_VAULT))
    assert [each["name"] for each in pod_of(job)["volumes"]] == ["tmp", "work"]
    assert "fsGroup" not in pod_of(job)["securityContext"]


# --- secrets


def test_secrets_are_named_and_never_read() -> None:
    gc = bucketgc(
        bucket={"name": "shop-media", "credentialsSecretRef": {"name": "media"}},
        references=[
            {
                "name": name,
                "database": {"urlSecretRef": {"name": f"{name}-db", "key": "url"}},
                "cdc": {"backend": "postgres", "urlSecretRef": {"name": f"{name}-db", "key": "direct"}},
                "queries": [{"name": "q", "sql": "select 1"}],
            }
            for name in ("shop", "billing")
        ],
        vault=S3_VAULT,
    )
    found = {
        name: (each["valueFrom"]["secretKeyRef"]["name"], each["valueFrom"]["secretKeyRef"]["key"])
        for name, each in variables_of(made(gc)).items()
        if "valueFrom" in each
    }
    assert found == {
        "S3GC_SOURCE_0_URL": ("shop-db", "url"),
        "S3GC_SOURCE_0_CDC_URL": ("shop-db", "direct"),
        "S3GC_SOURCE_1_URL": ("billing-db", "url"),
        "S3GC_SOURCE_1_CDC_URL": ("billing-db", "direct"),
        **{
            f"S3GC_{side}_{key}": (secret, key)
            for side, secret in (("BUCKET", "media"), ("VAULT", "vault"))
            for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        },
    }
    optional = [
        name
        for name, each in variables_of(made(gc)).items()
        if each.get("valueFrom", {}).get("secretKeyRef", {}).get("optional")
    ]
    assert optional == ["S3GC_BUCKET_AWS_SESSION_TOKEN", "S3GC_VAULT_AWS_SESSION_TOKEN"]


def test_without_a_secret_the_pods_own_identity_counts() -> None:
    names = set(variables_of(made()))
    assert not any("AWS" in name for name in names)


def test_a_restore_needs_no_database() -> None:
    job = restore_job(gcrestore(), bucketgc(vault=S3_VAULT), SETTINGS, now=NOW)
    assert not any(name.startswith("S3GC_SOURCE") for name in variables_of(job))
    assert job["metadata"]["name"] == "undo-restore"
    assert job["metadata"]["ownerReferences"][0]["kind"] == "GCRestore"
    assert job["metadata"]["labels"]["s3gc.dev/gcrestore"] == "undo"


# --- what the process gets is what the policy says


HOSTILE = st.text(alphabet=st.sampled_from('$(){}"\\ aSECRET_Ü\n'), min_size=1, max_size=60)


@settings(deadline=None)
@given(HOSTILE)
def test_whatever_a_policy_says_arrives_as_it_is(where: str) -> None:
    reference = {
        "name": "shop",
        "database": {"urlSecretRef": {"name": "db", "key": "url"}},
        "tables": [{"table": "users", "columns": [{"name": "avatar_url"}], "where": where}],
    }
    gc = bucketgc(references=[reference])
    secrets = {"db": {"url": "postgresql://app:hunter2@db/shop"}}
    _, environment = started(container_of(made(gc)), secrets)
    config = policy_from_environment(environment)
    assert config is not None
    assert config.sources[0].tables[0].where == where
    assert config.policy_name == "shop.media"
    assert "hunter2" not in environment["S3GC_POLICY"]


@settings(deadline=None)
@given(st.lists(HOSTILE, max_size=5), st.lists(HOSTILE, max_size=5))
def test_whatever_a_restore_names_arrives_as_it_is(keys: list[str], prefixes: list[str]) -> None:
    restore = gcrestore(latest=True, keys=keys, prefixes=prefixes)
    arguments, _ = started(container_of(restore_job(restore, bucketgc(), SETTINGS, now=NOW)), {})
    assert [word.removeprefix("--key=") for word in arguments if word.startswith("--key=")] == keys
    assert [word.removeprefix("--prefix=") for word in arguments if word.startswith("--prefix=")] == prefixes


def test_the_policy_of_a_job_means_what_the_file_means() -> None:
    gc = bucketgc(
        schedule="30 2 * * *",
        limits={"maxDeletePercent": 5},
        job={"activeDeadlineSeconds": 7200, "podLabels": {"team": "shop"}},
    )
    text = policy_json(gc, 7200)
    assert "podLabels" not in text
    here = load_policy(text, {"DATABASE_URL": "sqlite:///x"})
    assert here.deadline_seconds == 6900
    assert gc.config is not None
    assert here.limits == gc.config.limits
    assert here.with_updates(sources=()) == gc.config.with_updates(sources=())


def test_the_engine_ends_before_kubernetes_ends_it() -> None:
    job = made(bucketgc(job={"activeDeadlineSeconds": 7200}))
    assert job["spec"]["activeDeadlineSeconds"] == 7200
    assert variables_of(job)["S3GC_STOP_AT"]["value"] == "2026-11-23T04:25:00Z"
    assert made()["spec"]["activeDeadlineSeconds"] == 86400


def test_an_approved_plan_is_named_by_its_whole_digest() -> None:
    assert container_of(made(trigger=Trigger.APPROVAL, token=DIGEST))["args"] == ["run", "--approve", DIGEST]
    assert container_of(made())["args"] == ["run"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"latest": True}, ["--latest", "--no-dry-run"]),
        ({"operationID": OPERATION, "dryRun": True}, [OPERATION, "--dry-run"]),
        (
            {
                "latest": True,
                "keys": ["a"],
                "prefixes": ["b/"],
                "target": {"bucket": "rescue", "prefix": "c/"},
            },
            ["--latest", "--no-dry-run", "--key=a", "--prefix=b/", "--to-bucket=rescue", "--to-prefix=c/"],
        ),
    ],
)
def test_a_restore_is_told_what_to_bring_back(spec: dict[str, Any], words: list[str]) -> None:
    arguments = restore_arguments(gcrestore(**spec))
    assert arguments[0] == "restore"
    assert "--record=shop.undo" in arguments
    assert [word for word in arguments[1:] if not word.startswith("--record")] == words


# --- the pod's own


def test_what_the_policy_says_of_its_pod_is_taken_over() -> None:
    job = {
        "serviceAccountName": "gc",
        "resources": {"limits": {"memory": "4Gi"}},
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "gc", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "low",
        "imagePullSecrets": [{"name": "registry"}],
        "podLabels": {"team": "shop", "app.kubernetes.io/managed-by": "somebody"},
        "podAnnotations": {"sidecar": "no"},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}, {"name": "S3GC_POLICY", "value": "{}"}],
        "hostNetwork": True,
    }
    made_job = made(bucketgc(job=job))
    pod, container = pod_of(made_job), container_of(made_job)
    for name in ("serviceAccountName", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[name] == job[name]
    assert pod["imagePullSecrets"] == [{"name": "registry"}]
    assert container["resources"] == job["resources"]
    assert (pod["hostNetwork"], pod["dnsPolicy"]) == (True, "ClusterFirstWithHostNet")
    labels = made_job["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["app.kubernetes.io/managed-by"]) == ("shop", "s3gc")
    assert variables_of(made_job)["HTTPS_PROXY"]["value"] == "http://proxy"
    names = [each["name"] for each in container["env"]]
    assert len(names) == len(set(names)), "a policy cannot replace what s3gc sets itself"
    assert json.loads(variables_of(made_job)["S3GC_POLICY"]["value"])["kind"] == "BucketGC"


def test_the_operators_defaults_fill_in_what_a_policy_leaves_open() -> None:
    defaults = JobSpec.model_validate(
        {"hostNetwork": True, "priorityClassName": "low", "resources": {"limits": {"memory": "1Gi"}}}
    )
    settings = JobSettings("image", defaults=defaults)
    pod = pod_of(made(settings=settings))
    assert (pod["hostNetwork"], pod["priorityClassName"]) == (True, "low")
    own = pod_of(made(bucketgc(job={"hostNetwork": False, "priorityClassName": "high"}), settings))
    assert "hostNetwork" not in own
    assert own["priorityClassName"] == "high"


def test_memory_follows_the_joins() -> None:
    assert container_of(made(bucketgc(engine={"memoryLimitMB": 2000})))["resources"] == {
        "requests": {"cpu": "250m", "memory": "2768Mi"},
        "limits": {"memory": "2768Mi"},
    }
