"""The operator as a process: everything is wired here, and whatever ends ends all of it.

Order matters at the start. First the API server is asked whether the CRDs are there and may be read, so that what is
missing is said and not retried; then the watches run until they have shown all that there is; only then is anything
decided, because an operator that has not seen a Job yet would think that it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import kopf

from s3gc.controller.acting import Actor
from s3gc.controller.cache import Cache
from s3gc.controller.handlers import build_registry, build_settings
from s3gc.controller.health import KINDS, Health, Sync
from s3gc.controller.inbox import Inbox
from s3gc.controller.jobs import JobSettings
from s3gc.controller.kube import Kube, KubeError, connect
from s3gc.controller.metrics import Meters
from s3gc.controller.queue import WorkQueue
from s3gc.controller.reconcile import Reconciler
from s3gc.controller.web import serving
from s3gc.exceptions import ConfigurationError

__all__ = ["OperatorSettings", "run_operator"]

log = logging.getLogger(__name__)

_TURN_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class OperatorSettings:
    """What `s3gc operator` is told. No `namespaces`: the whole cluster."""

    job: JobSettings
    namespaces: tuple[str, ...] = ()
    host: str = "0.0.0.0"  # noqa: S104  the kubelet and Prometheus come from elsewhere
    port: int = 8080
    resync_seconds: float = 300
    progress_seconds: float = 30
    #: A watch that has not shown for so long what was there is thought dead. kopf's own check takes 70 s at most.
    blind_seconds: float = 120
    workers: int = 8
    now: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))


async def run_operator(settings: OperatorSettings, *, stop: asyncio.Event | None = None) -> None:
    """Run until SIGTERM, or until `stop` is set. Raises ConfigurationError for what a person must change."""
    client = await connect()
    kube = Kube(client, settings.namespaces)
    try:
        await _check(kube)
        await _Operator(settings, kube).run(stop or asyncio.Event())
    finally:
        await kube.close()


async def _check(kube: Kube) -> None:
    """Whether everything that is watched can be listed."""
    for kind in KINDS:
        try:
            await kube.versions(kind)
        except KubeError as error:
            if error.is_not_found:
                raise ConfigurationError(
                    f"the CRD of {kind} is not installed: s3gc crds | kubectl apply --server-side -f -"
                ) from None
            if error.status in (401, 403):
                raise ConfigurationError(
                    f"a right is missing (docs/operator-internals.md lists them): {error.message}"
                ) from None
            raise ConfigurationError(f"the API server cannot be used: {error.message}") from None


class _Operator:
    def __init__(self, settings: OperatorSettings, kube: Kube) -> None:
        self._settings = settings
        self._kube = kube
        self._cache = Cache()
        self._queue = WorkQueue(lambda: settings.now().timestamp())
        self._inbox = Inbox(self._cache, self._queue)
        self._health = Health()
        self._meters = Meters(self._cache.bucketgcs, version=_version())
        self._sync = Sync(kube, self._cache)
        actor = Actor(kube, self._cache, settings.now, host=socket.gethostname())
        self._reconciler = Reconciler(
            actor,
            self._queue,
            settings.job,
            self._meters,
            self._health,
            progress_seconds=settings.progress_seconds,
        )

    async def run(self, stop: asyncio.Event) -> None:
        settings = self._settings
        async with serving(settings.host, settings.port, self._health, self._meters) as port:
            where = ", ".join(settings.namespaces) or "the whole cluster"
            log.info("watching %s; probes and metrics on port %d", where, port)
            tasks = [
                asyncio.create_task(self._turn(), name="turn"),
                asyncio.create_task(self._watch(stop), name="watch"),
                asyncio.create_task(self._decide(), name="decide"),
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                stop.set()
                for task in (tasks[0], tasks[2]):
                    task.cancel()
                await asyncio.wait(tasks)
            for task in done:
                task.result()  # kopf's watch ends by itself when it is told to; everything else is an error

    async def _turn(self) -> None:
        while True:
            self._health.turn()
            await asyncio.sleep(_TURN_SECONDS)

    async def _watch(self, stop: asyncio.Event) -> None:
        await kopf.operator(
            registry=build_registry(self._inbox, self._login),
            settings=build_settings(),
            standalone=True,
            clusterwide=not self._settings.namespaces,
            namespaces=list(self._settings.namespaces),
            stop_flag=stop,
        )

    async def _login(self) -> kopf.ConnectionInfo:
        """The same login as our own client's, read anew each time that kopf asks for one."""
        client = await connect()
        try:
            configuration = client.configuration
            scheme, _, token = str((configuration.api_key or {}).get("BearerToken", "")).partition(" ")
            return kopf.ConnectionInfo(
                server=configuration.host,
                ca_path=configuration.ssl_ca_cert,
                insecure=not configuration.verify_ssl,
                scheme=scheme.capitalize() or None,
                token=token or None,
                certificate_path=configuration.cert_file,
                private_key_path=configuration.key_file,
            )
        finally:
            await client.close()

    async def _decide(self) -> None:
        await self._until_all_is_seen()
        self._health.is_ready = True
        self._inbox.everything()
        async with asyncio.TaskGroup() as group:
            for number in range(self._settings.workers):
                group.create_task(self._reconciler.work(), name=f"worker {number}")
            group.create_task(self._resync(), name="resync")

    async def _until_all_is_seen(self) -> None:
        """Wait until the watches have shown what there is."""
        began = asyncio.get_running_loop().time()
        while True:
            try:
                missed = await self._sync.compare()
                if not missed:
                    self._health.blind = None
                    return
                if asyncio.get_running_loop().time() - began > self._settings.blind_seconds:
                    self._health.blind = f"the watches have not shown {missed[0]} and {len(missed) - 1} more"
            except KubeError as error:
                log.warning("what there is could not be listed: %s", error.message)
            await asyncio.sleep(0.5)

    async def _resync(self) -> None:
        """Now and then look at everything, and see whether the watches show everything."""
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            try:
                await self._sync.compare()
                await self._wait_for_the_watches()
            except KubeError as error:
                log.warning("what there is could not be listed: %s", error.message)
            self._inbox.everything()

    async def _wait_for_the_watches(self) -> None:
        began = asyncio.get_running_loop().time()
        while missed := self._sync.still_missed():
            if asyncio.get_running_loop().time() - began > self._settings.blind_seconds:
                self._health.blind = f"the watches have not shown {missed[0]} and {len(missed) - 1} more"
                log.error("%s; the liveness probe fails from now on", self._health.blind)
                return
            await asyncio.sleep(1)
        self._health.blind = None


def _version() -> str:
    try:
        return version("s3gc")
    except PackageNotFoundError:
        return "unknown"
