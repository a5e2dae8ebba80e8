"""The CRDs of this tree, installed into the real API server, and a way to ask it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from s3gc.controller.crd import definitions
from tests.testbed.kubernetes import Kubernetes

SMALLEST: dict[str, Any] = {
    "apiVersion": "s3gc.dev/v1",
    "kind": "BucketGC",
    "metadata": {"name": "media"},
    "spec": {"bucket": {"name": "shop-media"}, "vault": {"persistentVolumeClaim": {"claimName": "vault"}}},
}
RESTORE: dict[str, Any] = {
    "apiVersion": "s3gc.dev/v1",
    "kind": "GCRestore",
    "metadata": {"name": "undo-friday"},
    "spec": {"bucketGCRef": {"name": "media"}, "latest": True},
}
REFERENCE: dict[str, Any] = {
    "name": "shop",
    "database": {"urlSecretRef": {"name": "shop-db", "key": "url"}},
    "tables": [{"table": "public.users", "columns": [{"name": "avatar_url"}]}],
}


def changed(base: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """A copy of `base` with `value` at the dotted `path` (numbers are places in lists); None removes."""
    whole = copy.deepcopy(base)
    if not path:
        return whole
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    node: Any = whole
    for part in way:
        node = node[part] if isinstance(part, int) else node.setdefault(part, {})
    if value is None:
        del node[last]
    else:
        node[last] = value
    return whole


class Server:
    """What the API server says to a manifest. Nothing is stored unless `keep` is asked for."""

    def __init__(self, cluster: Kubernetes, namespace: str) -> None:
        from kubernetes import client, config

        self.namespace = namespace
        self.errors = client.ApiException
        self._api = client.CustomObjectsApi(config.new_client_from_config(str(cluster.kubeconfig)))

    def _where(self, manifest: dict[str, Any]) -> dict[str, str]:
        plural = f"{manifest['kind'].lower()}s"
        return {"group": "s3gc.dev", "version": "v1", "namespace": self.namespace, "plural": plural}

    def create(self, manifest: dict[str, Any], *, keep: bool = False) -> dict[str, Any]:
        answer: dict[str, Any] = self._api.create_namespaced_custom_object(
            **self._where(manifest),
            body=manifest,
            field_validation="Strict",
            **({} if keep else {"dry_run": "All"}),
        )
        return answer

    def replace(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """The manifest in place of the one that is there, tried only."""
        name = manifest["metadata"]["name"]
        current = self._api.get_namespaced_custom_object(**self._where(manifest), name=name)
        body = {**manifest, "metadata": {**manifest["metadata"]}}
        body["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"]
        answer: dict[str, Any] = self._api.replace_namespaced_custom_object(
            **self._where(manifest), name=name, body=body, field_validation="Strict", dry_run="All"
        )
        return answer

    def refusal(self, manifest: dict[str, Any], *, replacing: bool = False) -> str:
        """The sentences with which the API server refuses the manifest; fails when it does not."""
        with pytest.raises(self.errors) as caught:
            self.replace(manifest) if replacing else self.create(manifest)
        assert caught.value.status in (400, 422), caught.value
        return str(yaml.safe_load(caught.value.body)["message"])


@pytest.fixture(scope="session")
def server(kubernetes_api: Kubernetes) -> Iterator[Server]:
    for text in definitions().values():
        kubernetes_api.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", text=text)
    for name in ("bucketgcs.s3gc.dev", "gcrestores.s3gc.dev"):
        kubernetes_api.kubectl("wait", "--for=condition=Established", f"crd/{name}", "--timeout=60s")
    with kubernetes_api.namespace("crds") as namespace:
        yield Server(kubernetes_api, namespace)
