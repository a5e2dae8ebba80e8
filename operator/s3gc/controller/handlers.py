"""kopf's part: three watches that deliver to the inbox, and a login. Nothing else of kopf is used.

`on.event` handlers see every event and leave no trace on an object. Handlers of another kind (create, update, timer,
daemon) would write finalizers and annotations: objects that cannot be deleted once the operator is gone, and a
difference for every GitOps tool.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from s3gc.controller import labels
from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB
from s3gc.controller.inbox import Inbox
from s3gc.manifest import GROUP, VERSION

__all__ = ["build_registry", "build_settings"]


def build_registry(
    inbox: Inbox, login: Callable[[], Awaitable[kopf.ConnectionInfo]]
) -> kopf.OperatorRegistry:
    """The handlers, in a registry of their own: importing this module registers nothing anywhere."""
    registry = kopf.OperatorRegistry()

    def watch(kind: str, group: str, version: str, plural: str) -> None:
        async def seen(event: kopf.RawEvent, **_: Any) -> None:
            inbox.seen(kind, event["object"], deleted=event["type"] == "DELETED")

        kopf.on.event(group, version, plural, id=f"seen-{plural}", registry=registry)(seen)

    watch(BUCKETGC, GROUP, VERSION, "bucketgcs")
    watch(GCRESTORE, GROUP, VERSION, "gcrestores")
    watch(JOB, "batch", "v1", "jobs")

    @kopf.on.login(registry=registry, id="login")
    async def _login(**_: Any) -> kopf.ConnectionInfo:
        return await login()

    return registry


def build_settings() -> kopf.OperatorSettings:
    """kopf's settings: how it watches, and that it neither scans the cluster nor looks for peers."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True  # needs rights on namespaces and CRDs, and we have none
    settings.peering.standalone = True  # any peering object named `default` would pause us
    settings.posting.enabled = False  # events are our own
    settings.watching.label_selectors["batch", "v1", "jobs"] = labels.SELECTOR
    settings.watching.server_timeout = 300
    settings.watching.chunk_size = 500
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.queueing.exit_timeout = 1
    settings.process.ultimate_exiting_timeout = 20  # the pod's grace period is 30
    # Insurance, should a handler of another kind ever slip in: what it writes is at least known by its name.
    settings.persistence.finalizer = f"{GROUP}/kopf"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=GROUP, key="last")
    return settings
