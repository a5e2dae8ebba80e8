"""What a cycle's pod needs in a cluster, and how much of it and of the store a cycle may use."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from s3gc.manifest.base import Flag, Name, Part, SecretRef

__all__ = ["EngineSpec", "JobSpec"]

_LabelName = Annotated[str, Field(min_length=1, max_length=317)]
_Labels = Annotated[dict[_LabelName, Annotated[str, Field(max_length=63)]], Field(max_length=64)]
_Annotations = Annotated[dict[_LabelName, Annotated[str, Field(max_length=4096)]], Field(max_length=64)]
#: Objects of Kubernetes' own API. The API server judges them when it creates the Job.
_Open = dict[str, Any]


class JobSpec(Part):
    """What the Job's pod needs in a cluster; objects of Kubernetes' own are judged when the Job is created."""

    service_account_name: Name | None = Field(
        None,
        description="Service account of the pod, for workload identity. Default: the namespace's default. "
        "Its token is never mounted.",
    )
    resources: _Open | None = Field(
        None,
        description="Requests and limits of the container. Default: memory of engine.memoryLimitMB and 768 MiB more.",
    )
    node_selector: _Labels | None = Field(None, description="Labels of the nodes that may run it.")
    tolerations: Annotated[tuple[_Open, ...], Field(max_length=64)] = Field((), description="Of taints.")
    affinity: _Open | None = Field(None, description="To nodes and other pods.")
    priority_class_name: Name | None = Field(None, description="Priority class of the pod.")
    image_pull_secrets: Annotated[tuple[SecretRef, ...], Field(max_length=16)] = Field(
        (), description="Secrets of the image's registry."
    )
    pod_labels: _Labels | None = Field(None, description="More labels of the pod.")
    pod_annotations: _Annotations | None = Field(None, description="More annotations of the pod.")
    env: Annotated[tuple[_Open, ...], Field(max_length=64)] = Field(
        (), description="More variables of the container. Those that s3gc sets itself cannot be changed."
    )
    active_deadline_seconds: Annotated[int, Field(strict=True, ge=600, le=2_147_483_647)] | None = Field(
        None,
        description="The Job is ended after so long; the cycle itself ends 300 s earlier, in good order. "
        "Default: 86400, a day.",
    )
    host_network: Flag | None = Field(None, description="Use the node's network. Default: the pod's own.")


class EngineSpec(Part):
    """How much of the pod and of the store a cycle may use."""

    concurrency: Annotated[int, Field(strict=True, ge=1, le=512)] = Field(
        32, description="Requests in flight."
    )
    requests_per_second: Annotated[float, Field(strict=True, gt=0, le=1_000_000)] | None = Field(
        None, description="A budget of requests. Default: only the store's own SlowDown limits."
    )
    memory_limit_mb: Annotated[int, Field(strict=True, ge=64, le=1_048_576)] = Field(
        512, description="Memory of the join in MiB; the process needs about 600 MiB more."
    )
    pack_size_bytes: Annotated[int, Field(strict=True, ge=64 * 1024, le=5 * 1024**3)] = Field(
        64 * 1024 * 1024, description="Size of one pack in the vault."
    )
    group_objects: Annotated[int, Field(strict=True, ge=1, le=100_000)] = Field(
        1000, description="Deleted between two verifications, to begin with."
    )
    canary_objects: Annotated[int, Field(strict=True, ge=1, le=10_000)] = Field(
        20, description="In the first group."
    )
    barrier_timeout_seconds: Annotated[float, Field(strict=True, gt=0, le=86400)] = Field(
        300, description="How long to wait for transactions that were open during the sweep."
    )
