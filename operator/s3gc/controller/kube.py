"""The calls that the operator makes of the API server, and no others: each is a right in its role.

Bodies go in and come out as plain data; the official client brings the connection, every way to log in, and renewed
tokens. Every call has a time limit, an answer that is no success is a `KubeError`, and nothing is repeated here: what
failed is looked at again by the queue, after a pause.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import aiohttp

from s3gc.controller import labels
from s3gc.controller.cache import BUCKETGC, GCRESTORE, JOB
from s3gc.controller.observe import JobView, PodView, read_pod
from s3gc.exceptions import ConfigurationError
from s3gc.manifest import GROUP, VERSION

if TYPE_CHECKING:
    from kubernetes.aio.client import ApiClient

__all__ = ["Kube", "KubeError", "connect"]

REQUEST_SECONDS = 30.0
#: Of a log, its end: many lines of progress, or one line with a whole result.
LOG_BYTES = 512 * 1024
LOG_LINES = 40

_LISTS = {
    BUCKETGC: (f"/apis/{GROUP}/{VERSION}", "bucketgcs"),
    GCRESTORE: (f"/apis/{GROUP}/{VERSION}", "gcrestores"),
    JOB: ("/apis/batch/v1", "jobs"),
}
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PAGE = 500


class KubeError(Exception):
    """The API server did not do it. `status` is HTTP's, 0 where there was no answer; `reason` Kubernetes' word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_not_found(self) -> bool:
        return self.status == 404

    @property
    def exists_already(self) -> bool:
        return self.status == 409 and self.reason == "AlreadyExists"

    @property
    def is_invalid(self) -> bool:
        """Whether what was sent is wrong by itself: sending it again cannot help."""
        return self.status in (400, 422)


async def connect() -> ApiClient:
    """A client for the cluster of this pod, or for that of KUBECONFIG outside of one."""
    from kubernetes.aio import client, config

    configuration = client.Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except (config.ConfigException, OSError) as error:
        raise ConfigurationError(
            f"no cluster: this is no pod with a service account, and KUBECONFIG cannot be used: {error}"
        ) from None
    return client.ApiClient(configuration)


class Kube:
    """The API server, as far as the operator needs it. `namespaces` are those that it watches; empty: all."""

    def __init__(
        self, client: ApiClient, namespaces: Sequence[str] = (), *, component: str = "s3gc-operator"
    ) -> None:
        self._client = client
        self.namespaces = tuple(namespaces)
        self._component = component
        client.user_agent = f"{component}/s3gc"

    async def close(self) -> None:
        await self._client.close()

    # --- lists

    async def versions(self, kind: str) -> tuple[int, dict[tuple[str, str], tuple[str, str]]]:
        """UID and resource version of every object of a kind that is watched, and the version of the list itself.

        With several namespaces the lowest of the lists' versions counts.
        """
        base, plural = _LISTS[kind]
        selector = labels.SELECTOR if kind == JOB else ""
        found: dict[tuple[str, str], tuple[str, str]] = {}
        seen: list[int] = []
        for namespace in self.namespaces or ("",):
            where = f"/namespaces/{quote(namespace)}" if namespace else ""
            token = ""
            while True:
                answer = await self._get(
                    f"{base}{where}/{plural}",
                    {"limit": _PAGE, "continue": token, "labelSelector": selector},
                    accept=_METADATA_ONLY,
                )
                for item in answer.get("items") or ():
                    meta = item["metadata"]
                    found[str(meta["namespace"]), str(meta["name"])] = (
                        str(meta["uid"]),
                        str(meta["resourceVersion"]),
                    )
                head = answer.get("metadata") or {}
                token = str(head.get("continue") or "")
                if not token:
                    seen.append(int(head.get("resourceVersion") or 0))
                    break
        return min(seen), found

    async def pods_of_job(self, job: JobView) -> list[PodView]:
        answer = await self._get(
            f"/api/v1/namespaces/{quote(job.namespace)}/pods",
            {"labelSelector": f"batch.kubernetes.io/controller-uid={job.uid}"},
        )
        return [read_pod(item) for item in answer.get("items") or ()]

    async def pods_at_work(self, vault: str) -> list[str]:
        """Names of the pods that use a vault and are not over, those of Jobs that are gone included."""
        found = []
        for namespace in self.namespaces or ("",):
            where = f"/namespaces/{quote(namespace)}" if namespace else ""
            answer = await self._get(
                f"/api/v1{where}/pods",
                {
                    "labelSelector": f"{labels.SELECTOR},{labels.VAULT}={vault}",
                    "fieldSelector": "status.phase!=Succeeded,status.phase!=Failed",
                },
            )
            found += [
                f"{item['metadata']['namespace']}/{item['metadata']['name']}"
                for item in answer.get("items") or ()
            ]
        return found

    async def log(self, namespace: str, pod: str) -> str:
        """The end of a pod's log; "" where there is none yet, or none any more."""
        path = f"/api/v1/namespaces/{quote(namespace)}/pods/{quote(pod)}/log"
        query = {"container": labels.CONTAINER, "tailLines": LOG_LINES, "limitBytes": LOG_BYTES}
        try:
            data = await self._call("GET", path, query, accept="text/plain, */*")
        except KubeError as error:
            if error.status in (400, 404, 500):
                return ""  # no container yet, no pod any more, or its node does not answer
            raise
        return data.decode(errors="replace")

    # --- objects

    async def job(self, namespace: str, name: str) -> Mapping[str, Any] | None:
        try:
            return await self._get(f"/apis/batch/v1/namespaces/{quote(namespace)}/jobs/{quote(name)}", {})
        except KubeError as error:
            if error.is_not_found:
                return None
            raise

    async def create_job(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        namespace = body["metadata"]["namespace"]
        return await self._send("POST", f"/apis/batch/v1/namespaces/{quote(namespace)}/jobs", body)

    async def delete_job(self, job: JobView) -> None:
        """Delete exactly this Job, and with it its pods; one that is gone is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": job.uid},
        }
        path = f"/apis/batch/v1/namespaces/{quote(job.namespace)}/jobs/{quote(job.name)}"
        try:
            await self._send("DELETE", path, body)
        except KubeError as error:
            if error.status not in (404, 409):  # 409: another one has the name now
                raise

    async def write_status(
        self, kind: str, namespace: str, name: str, uid: str, status: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Replace the whole status of exactly this object, in one patch."""
        base, plural = _LISTS[kind]
        path = f"{base}/namespaces/{quote(namespace)}/{plural}/{quote(name)}/status"
        # `add` replaces what is there. The test keeps it from a new object that has an old one's name.
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": uid},
            {"op": "add", "path": "/status", "value": status},
        ]
        return await self._send("PATCH", path, patch, content_type="application/json-patch+json")

    async def create_event(
        self,
        *,
        involved: Mapping[str, str],
        kind: str,
        reason: str,
        message: str,
        at: str,
        host: str,
    ) -> None:
        namespace = involved["namespace"]
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{involved['name']}.", "namespace": namespace},
            "involvedObject": dict(involved),
            "type": kind,
            "reason": reason,
            "message": message,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": host,
        }
        await self._send("POST", f"/api/v1/namespaces/{quote(namespace)}/events", body)

    # --- the wire

    async def _get(
        self, path: str, query: Mapping[str, object], *, accept: str = "application/json"
    ) -> Mapping[str, Any]:
        return _decoded(await self._call("GET", path, query, accept=accept))

    async def _send(
        self, method: str, path: str, body: object, *, content_type: str = "application/json"
    ) -> Mapping[str, Any]:
        return _decoded(await self._call(method, path, {}, body=body, content_type=content_type))

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, object],
        *,
        body: object = None,
        accept: str = "application/json",
        content_type: str = "application/json",
    ) -> bytes:
        words = urlencode({name: value for name, value in query.items() if value not in ("", None)})
        verb, url, headers, sent, form = await self._client.param_serialize(
            method,
            f"{path}?{words}" if words else path,
            header_params={"Accept": accept, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = await self._client.call_api(
                verb, url, headers, sent, form, _request_timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS)
            )
            data: bytes = await answer.read() or b""
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            why = str(error) or type(error).__name__
            raise KubeError(0, "NoAnswer", f"the API server does not answer: {why}") from None
        if not 200 <= int(answer.status) <= 299:
            raise _refused(int(answer.status), data, method, path)
        return data


def _decoded(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KubeError(0, "BadAnswer", "the API server's answer is no object")
    return value


def _refused(status: int, data: bytes, method: str, path: str) -> KubeError:
    try:
        value = json.loads(data)
        return KubeError(status, str(value.get("reason") or ""), str(value.get("message") or ""))
    except (ValueError, AttributeError):
        text = data[:200].decode(errors="replace")
        return KubeError(status, "", f"{method} {path}: HTTP {status}: {text}")
