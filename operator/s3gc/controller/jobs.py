"""The Jobs that do the work: built whole, from a policy and the operator's settings, by pure functions.

Names are deterministic, so that whoever comes twice to the same decision finds the Job already there. Secrets are
named and never read: the kubelet puts them into variables. A variable's value and an argument are escaped,
because Kubernetes expands `$(NAME)` in both: a column's regular expression must not turn into a password.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from s3gc.controller import labels
from s3gc.controller.observe import Trigger
from s3gc.controller.resources import GCObject, Meta, RestoreObject
from s3gc.controller.vaults import vault_id
from s3gc.manifest import API_VERSION, BucketGCSpec, JobSpec
from s3gc.policy import DEADLINE_MARGIN_SECONDS, PVC_VAULT

__all__ = [
    "MAX_POLICY_BYTES",
    "JobSettings",
    "cycle_job",
    "cycle_job_name",
    "policy_json",
    "restore_job",
    "restore_job_name",
]

DEFAULT_DEADLINE_SECONDS = 86400
#: Linux takes no longer variable than 128 KiB, its name and an end included.
MAX_POLICY_BYTES = 120_000
#: What a process needs beside the memory of the join.
_MEMORY_BESIDE_JOIN_MB = 768
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_TERMINATION_LOG = "/dev/termination-log"


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What the operator is told about every Job. `defaults` fill in what a policy's `job` leaves open."""

    image: str
    pull_policy: str | None = None
    defaults: JobSpec = field(default_factory=JobSpec)
    fs_group: int | None = 65532


def cycle_job_name(name: str, trigger: Trigger, *, at: datetime | None = None, token: str = "") -> str:
    """`<name>-<unix minute>`, `-r<8 of the request>` or `-a<8 of the digest>`."""
    if trigger is Trigger.SCHEDULE:
        if at is None:
            raise ValueError("a scheduled Job is named after its scheduled time")
        return f"{name}-{int(at.timestamp()) // 60}"
    if trigger is Trigger.APPROVAL:
        return f"{name}-a{token[:8]}"
    return f"{name}-r{labels.short_hash(token)}"


def restore_job_name(name: str) -> str:
    return f"{name}-restore"


def cycle_job(
    gc: GCObject,
    settings: JobSettings,
    *,
    now: datetime,
    trigger: Trigger,
    scheduled_at: datetime | None = None,
    token: str = "",
) -> dict[str, Any]:
    """The Job of one cycle. `token` is the request's, or the digest of the plan that was approved."""
    spec = _spec(gc)
    job = _effective(spec.job, settings.defaults)
    arguments = ["run", *(["--approve", token] if trigger is Trigger.APPROVAL else [])]
    notes = {labels.SCHEDULED_AT: _rfc3339(scheduled_at)} if scheduled_at is not None else {}
    return _job(
        name=cycle_job_name(gc.meta.name, trigger, at=scheduled_at, token=token),
        owner=("BucketGC", gc.meta),
        component="cycle",
        more_labels={labels.BUCKETGC: gc.meta.name},
        notes={labels.TRIGGER: str(trigger), **notes},
        generation=gc.meta.generation,
        arguments=arguments,
        variables=[*_source_variables(spec), *_common_variables(gc, spec, job, now)],
        gc=gc,
        job=job,
        settings=settings,
    )


def restore_job(
    restore: RestoreObject, gc: GCObject, settings: JobSettings, *, now: datetime
) -> dict[str, Any]:
    """The Job of a GCRestore. It gets no database's URL: whoever restores at night needs none."""
    spec = _spec(gc)
    job = _effective(spec.job, settings.defaults)
    return _job(
        name=restore_job_name(restore.meta.name),
        owner=("GCRestore", restore.meta),
        component="restore",
        more_labels={labels.BUCKETGC: gc.meta.name, labels.GCRESTORE: restore.meta.name},
        notes={labels.TRIGGER: str(Trigger.RESTORE)},
        generation=restore.meta.generation,
        arguments=restore_arguments(restore),
        variables=_common_variables(gc, spec, job, now),
        gc=gc,
        job=job,
        settings=settings,
    )


def restore_arguments(restore: RestoreObject) -> list[str]:
    """What `s3gc restore` is told. The record makes a second run of the same GCRestore do nothing more."""
    spec = restore.spec
    if spec is None:
        raise ValueError("a GCRestore with problems has no Job")
    words = ["restore", "--latest" if spec.operation_id is None else spec.operation_id]
    words += ["--dry-run"] if spec.dry_run else ["--no-dry-run"]
    words += [f"--record={restore.meta.namespace}.{restore.meta.name}"]
    words += [f"--key={key}" for key in spec.keys]
    words += [f"--prefix={prefix}" for prefix in spec.prefixes]
    if spec.target is not None and spec.target.bucket is not None:
        words.append(f"--to-bucket={spec.target.bucket}")
    if spec.target is not None and spec.target.prefix is not None:
        words.append(f"--to-prefix={spec.target.prefix}")
    return words


def policy_json(gc: GCObject, deadline_seconds: int | None = None) -> str:
    """The manifest for `S3GC_POLICY`: what the process needs, every default written out, nothing of the pod."""
    spec = _spec(gc).model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"job"})
    if deadline_seconds is not None:
        spec["job"] = {"activeDeadlineSeconds": deadline_seconds}
    document = {
        "apiVersion": API_VERSION,
        "kind": "BucketGC",
        "metadata": {"name": gc.meta.name, "namespace": gc.meta.namespace},
        "spec": spec,
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _spec(gc: GCObject) -> BucketGCSpec:
    if gc.spec is None:
        raise ValueError("a BucketGC with problems has no Job")
    return gc.spec


def _effective(own: JobSpec, defaults: JobSpec) -> JobSpec:
    """`own` where it says something, else `defaults`; a field is one thing and is not mixed."""
    filled = {name: getattr(defaults, name) for name in defaults.model_fields_set - own.model_fields_set}
    return own.model_copy(update=filled)


# --- variables


def _source_variables(spec: BucketGCSpec) -> Iterable[dict[str, Any]]:
    for index, reference in enumerate(spec.references):
        url = reference.database.url_secret_ref
        yield _from_secret(f"S3GC_SOURCE_{index}_URL", url.name, url.key)
        if reference.cdc is not None and reference.cdc.url_secret_ref is not None:
            direct = reference.cdc.url_secret_ref
            yield _from_secret(f"S3GC_SOURCE_{index}_CDC_URL", direct.name, direct.key)


def _common_variables(gc: GCObject, spec: BucketGCSpec, job: JobSpec, now: datetime) -> list[dict[str, Any]]:
    deadline = job.active_deadline_seconds or DEFAULT_DEADLINE_SECONDS
    # The Job's clock begins now, the engine's when a pod is there, perhaps the third one. So the engine is told
    # the moment, and not the span, at which it must have ended.
    stop_at = now + timedelta(seconds=deadline - DEADLINE_MARGIN_SECONDS)
    variables: list[dict[str, Any]] = []
    if spec.bucket.credentials_secret_ref is not None:
        variables += _credentials("S3GC_BUCKET_", spec.bucket.credentials_secret_ref.name)
    if spec.vault.s3 is not None and spec.vault.s3.credentials_secret_ref is not None:
        variables += _credentials("S3GC_VAULT_", spec.vault.s3.credentials_secret_ref.name)
    values = {
        "S3GC_POLICY": policy_json(gc, deadline),
        "S3GC_WORK_DIR": "/work",
        "S3GC_TERMINATION_LOG": _TERMINATION_LOG,
        "S3GC_STOP_AT": _rfc3339(stop_at),
        "HOME": "/tmp",  # noqa: S108  an emptyDir of the pod's own
    }
    return [*variables, *({"name": name, "value": _escaped(value)} for name, value in values.items())]


def _credentials(prefix: str, secret: str) -> list[dict[str, Any]]:
    found = [_from_secret(f"{prefix}{key}", secret, key) for key in _AWS]
    found[-1]["valueFrom"]["secretKeyRef"]["optional"] = True  # only temporary credentials have a token
    return found


def _from_secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _escaped(text: str) -> str:
    """`text` as Kubernetes must get it, so that it arrives as it is: it reads `$$` as `$` and expands `$(NAME)`."""
    return text.replace("$", "$$")


# --- the Job


def _job(
    *,
    name: str,
    owner: tuple[str, Meta],
    component: str,
    more_labels: Mapping[str, str],
    notes: Mapping[str, str],
    generation: int,
    arguments: Sequence[str],
    variables: Sequence[dict[str, Any]],
    gc: GCObject,
    job: JobSpec,
    settings: JobSettings,
) -> dict[str, Any]:
    kind, meta = owner
    spec = _spec(gc)
    own_labels = {
        labels.NAME: "s3gc",
        labels.MANAGED_BY: labels.MANAGER,
        labels.COMPONENT: component,
        labels.VAULT: vault_id(spec, gc.meta.namespace),
        **more_labels,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": meta.namespace,
            "labels": own_labels,
            "annotations": {labels.GENERATION: str(generation), **notes},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": kind,
                    "name": meta.name,
                    "uid": meta.uid,
                    "controller": True,
                    # True would need a right on the owner's finalizers where that admission plugin is on.
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": {
            "backoffLimit": 2,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": job.active_deadline_seconds or DEFAULT_DEADLINE_SECONDS,
            # The next pod only when the one before is wholly over: two must never delete side by side.
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        # What another try would not change: a configuration, a guard's no, a part that failed.
                        "action": "FailJob",
                        "onExitCodes": {
                            "containerName": labels.CONTAINER,
                            "operator": "In",
                            "values": [2, 3, 4],
                        },
                    },
                    {
                        "action": "Ignore",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    },
                ]
            },
            "template": {
                "metadata": {
                    "labels": {**(job.pod_labels or {}), **own_labels},
                    **({"annotations": dict(job.pod_annotations)} if job.pod_annotations else {}),
                },
                "spec": _pod(spec, job, arguments, variables, settings),
            },
        },
    }


def _pod(
    spec: BucketGCSpec,
    job: JobSpec,
    arguments: Sequence[str],
    variables: Sequence[dict[str, Any]],
    settings: JobSettings,
) -> dict[str, Any]:
    claim = spec.vault.persistent_volume_claim
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if claim is not None and settings.fs_group is not None:
        security |= {"fsGroup": settings.fs_group, "fsGroupChangePolicy": "OnRootMismatch"}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}, {"name": "work", "emptyDir": {}}]
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "work", "mountPath": "/work"}]  # noqa: S108
    if claim is not None:
        volumes.append({"name": "vault", "persistentVolumeClaim": {"claimName": claim.claim_name}})
        mounts.append({"name": "vault", "mountPath": PVC_VAULT})
    ours = {variable["name"] for variable in variables}
    container = {
        "name": labels.CONTAINER,
        "image": settings.image,
        "args": [_escaped(word) for word in arguments],
        "env": [*(entry for entry in job.env if entry.get("name") not in ours), *variables],
        "resources": job.resources if job.resources is not None else _memory(spec),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": _TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if settings.pull_policy is not None:
        container["imagePullPolicy"] = settings.pull_policy
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The group under way, and a bounded check of what it deleted.
        "terminationGracePeriodSeconds": 120,
        "securityContext": security,
        "containers": [container],
        "volumes": volumes,
    }
    optional = {
        "serviceAccountName": job.service_account_name,
        "nodeSelector": job.node_selector,
        "tolerations": list(job.tolerations),
        "affinity": job.affinity,
        "priorityClassName": job.priority_class_name,
        "imagePullSecrets": [{"name": secret.name} for secret in job.image_pull_secrets],
    }
    pod |= {name: value for name, value in optional.items() if value}
    if job.host_network:
        pod |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return pod


def _memory(spec: BucketGCSpec) -> dict[str, Any]:
    memory = f"{spec.engine.memory_limit_mb + _MEMORY_BESIDE_JOIN_MB}Mi"
    return {"requests": {"cpu": "250m", "memory": memory}, "limits": {"memory": memory}}


def _rfc3339(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")
