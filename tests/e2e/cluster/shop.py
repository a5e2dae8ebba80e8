"""A shop on a real cluster: a bucket on MinIO, rows in PostgreSQL or MariaDB, Secrets, a BucketGC, and what became of it.

Servers are on the machine's loopback, so its Jobs use the node's network. Everything is done with kubectl, as a user does it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

from tests.testbed.kubernetes import Kubernetes
from tests.testbed.services import S3Server, make_bucket, s3_client

Manifest = dict[str, Any]


@dataclass
class Shop:
    """One namespace, one bucket, one database."""

    cluster: Kubernetes
    namespace: str
    store: S3Server
    dsn: str
    name: str = "media"
    bucket: str = ""
    vault: str = ""
    bodies: dict[str, bytes] = field(default_factory=dict)

    def prepare(self, objects: int = 30) -> None:
        """Fill the bucket and write the Secrets. Rows are written by who knows the database."""
        self.bucket, self.vault = make_bucket(self.store, versioning=True), make_bucket(self.store)
        client = s3_client(self.store)
        for number in range(objects):
            key, body = f"avatars/{number:03d}.jpg", f"bytes of {number}".encode() * 50
            client.put_object(
                Bucket=self.bucket, Key=key, Body=body, ContentType="image/jpeg", Metadata={"n": str(number)}
            )
            self.bodies[key] = body
        time.sleep(2.1 - time.time() % 1)  # an object as young as the listing is never judged
        self.secret(f"{self.name}-db", url=self.dsn)
        self.secret(
            f"{self.name}-s3",
            AWS_ACCESS_KEY_ID=self.store.access_key,
            AWS_SECRET_ACCESS_KEY=self.store.secret_key,
        )

    def secret(self, name: str, **values: str) -> None:
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
        self.cluster.apply(manifest, words=["-n", self.namespace])

    def policy(self, mode: str = "DryRun", **spec: Any) -> Manifest:
        here = {
            "endpointURL": self.store.endpoint,
            "pathStyle": True,
            "credentialsSecretRef": {"name": f"{self.name}-s3"},
        }
        return {
            "apiVersion": "s3gc.dev/v1",
            "kind": "BucketGC",
            "metadata": {"name": self.name},
            "spec": {
                "bucket": {"name": self.bucket, **here},
                "references": [
                    {
                        "name": "shop",
                        "database": {"urlSecretRef": {"name": f"{self.name}-db", "key": "url"}},
                        "tables": [{"table": "users", "columns": [{"name": "avatar_url"}]}],
                    }
                ],
                "mode": mode,
                "retentionDays": 0,
                "unreferencedDays": 0,
                "limits": {"maxDeletePercent": 100},
                "vault": {"s3": {"bucket": self.vault, "prefix": "media/", **here}},
                "job": {"hostNetwork": True},
                **spec,
            },
        }

    def apply(self, *manifests: Manifest) -> str:
        return self.cluster.apply(*manifests, words=["-n", self.namespace])

    def kubectl(self, *words: str, **options: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *words, **options)

    def object(self, kind: str = "bgc", name: str | None = None) -> Manifest:
        return self.cluster.get("-n", self.namespace, kind, name or self.name)

    def run_now(self, token: str) -> None:
        self.kubectl("annotate", "bgc", self.name, "--overwrite", f"s3gc.dev/run-requested-at={token}")

    def cycle(self, token: str, seconds: float = 120) -> Manifest:
        """Ask for a cycle, wait for its end, and return what the status says of it."""
        self.run_now(token)

        def ended() -> Manifest | None:
            status = self.object().get("status", {})
            done = status.get("lastHandledRunRequest") == token and not status.get("active")
            last: Manifest | None = status.get("lastCycle")
            return last if done else None

        return self.cluster.eventually(f"the cycle {token} of {self.name}", ended, seconds)

    def present(self) -> dict[str, bytes]:
        client, found = s3_client(self.store), {}
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            for item in page.get("Contents", ()):
                if item["Key"].startswith(".s3gc/"):
                    continue
                with contextlib.suppress(client.exceptions.NoSuchKey):  # deleted since it was listed
                    answer = client.get_object(Bucket=self.bucket, Key=item["Key"])
                    found[item["Key"]] = answer["Body"].read()
        return found
