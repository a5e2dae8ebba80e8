"""`s3gc operator`: the controller of BucketGC and GCRestore, as a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from s3gc.cli.options import Flags
from s3gc.cli.options import command as shared_command

if TYPE_CHECKING:
    from s3gc.manifest import JobSpec

__all__ = ["command"]


@shared_command("none", output=None, long_running=True)
def command(
    flags: Flags,
    namespace: Annotated[
        list[str] | None,
        typer.Option(
            help="Watch only this namespace; repeatable. Default: the whole cluster.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    namespaces: Annotated[
        str,
        typer.Option(
            "--namespaces",
            help="The same, separated by commas.",
            metavar="NAME,NAME",
            envvar="S3GC_OPERATOR_NAMESPACES",
            show_default=False,
        ),
    ] = "",
    job_image: Annotated[
        str,
        typer.Option(
            help="Image of the Jobs: the operator's own.",
            metavar="IMAGE",
            envvar="S3GC_OPERATOR_JOB_IMAGE",
            show_default=False,
        ),
    ] = "",
    job_image_pull_policy: Annotated[
        str,
        typer.Option(
            help="Always, IfNotPresent or Never.",
            metavar="POLICY",
            envvar="S3GC_OPERATOR_JOB_IMAGE_PULL_POLICY",
            show_default=False,
        ),
    ] = "",
    job_defaults: Annotated[
        str,
        typer.Option(
            help="Fields of spec.job for every BucketGC that does not set them, as JSON.",
            metavar="JSON",
            envvar="S3GC_OPERATOR_JOB_DEFAULTS",
            show_default=False,
        ),
    ] = "",
    job_fs_group: Annotated[
        str,
        typer.Option(
            help="fsGroup of Jobs whose vault is a PersistentVolumeClaim; empty: none.",
            metavar="GID",
            envvar="S3GC_OPERATOR_JOB_FS_GROUP",
        ),
    ] = "65532",
    listen: Annotated[
        str,
        typer.Option(
            help="Where probes and metrics are served.", metavar="HOST:PORT", envvar="S3GC_OPERATOR_LISTEN"
        ),
    ] = "0.0.0.0:8080",
    resync_seconds: Annotated[
        float,
        typer.Option(
            min=5,
            help="Everything is looked at again this often.",
            metavar="N",
            envvar="S3GC_OPERATOR_RESYNC_SECONDS",
        ),
    ] = 300,
    progress_seconds: Annotated[
        float,
        typer.Option(
            min=1,
            help="How often a running Job's log is read.",
            metavar="N",
            envvar="S3GC_OPERATOR_PROGRESS_SECONDS",
        ),
    ] = 30,
) -> None:
    """Reconcile BucketGC and GCRestore: launch cycles and restores as Jobs, write back what they did.

    Runs in a pod with its service account, or outside against the cluster of KUBECONFIG. It needs the CRDs (s3gc
    crds) and the rights of docs/operator-internals.md, and ends with 2 when one is missing.
    """
    import asyncio
    import logging

    from s3gc.controller.jobs import JobSettings
    from s3gc.exceptions import ConfigurationError

    if not job_image:
        raise ConfigurationError("which image do Jobs run? Give --job-image, or set S3GC_OPERATOR_JOB_IMAGE")
    if job_image_pull_policy not in ("", "Always", "IfNotPresent", "Never"):
        raise ConfigurationError(
            f"{job_image_pull_policy!r} is no pull policy: Always, IfNotPresent or Never"
        )
    host, port = _address(listen)
    try:
        from s3gc.controller.app import OperatorSettings, run_operator
    except ImportError as error:
        raise ConfigurationError(
            f"the operator needs the extra: pip install 's3gc[operator]' ({error})"
        ) from None
    named = [*(namespace or ()), *(name.strip() for name in namespaces.split(",") if name.strip())]
    settings = OperatorSettings(
        job=JobSettings(
            image=job_image,
            pull_policy=job_image_pull_policy or None,
            defaults=_defaults(job_defaults),
            fs_group=_group(job_fs_group),
        ),
        namespaces=tuple(dict.fromkeys(named)),
        host=host,
        port=port,
        resync_seconds=resync_seconds,
        progress_seconds=progress_seconds,
    )
    logging.getLogger("kopf").setLevel(logging.DEBUG if flags.debug else logging.WARNING)
    asyncio.run(run_operator(settings))


def _address(text: str) -> tuple[str, int]:
    from s3gc.exceptions import ConfigurationError

    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or not 0 <= int(port) <= 65535:
        raise ConfigurationError(f"{text!r} is no address to listen on; write HOST:PORT, as in 0.0.0.0:8080")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104  as above


def _defaults(text: str) -> JobSpec:
    import json

    from pydantic import ValidationError

    from s3gc.config import list_problems
    from s3gc.exceptions import ConfigurationError
    from s3gc.manifest import JobSpec
    from s3gc.policy import manifest_path

    if not text.strip():
        return JobSpec()
    try:
        return JobSpec.model_validate(json.loads(text))
    except ValidationError as error:
        problems = list_problems(error, where=manifest_path)
        raise ConfigurationError(f"the defaults of Jobs: {'; '.join(problems)}") from None
    except ValueError as error:
        raise ConfigurationError(f"the defaults of Jobs are no JSON: {error}") from None


def _group(text: str) -> int | None:
    from s3gc.exceptions import ConfigurationError

    if not text.strip():
        return None
    if not text.strip().isdigit():
        raise ConfigurationError(f"{text!r} is no group id")
    return int(text)
