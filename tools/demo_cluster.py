#!/usr/bin/env python3
"""`make demo-cluster`: install the operator, watch a policy look, ask, delete, and a GCRestore bring everything back.

Without KUBECONFIG it starts a Kubernetes, a MinIO and a PostgreSQL on this machine (Linux, as root), on loopback, and
ends them. With KUBECONFIG and IMAGE (an image of s3gc that the cluster can pull) it uses that cluster, and leaves
nothing in it but the CRDs: MinIO and PostgreSQL run in a namespace that goes with the demo.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.testbed import services  # noqa: E402
from tests.testbed.cluster import Cluster  # noqa: E402
from tests.testbed.kubernetes import RESTRICTED, Kubernetes, KubernetesError  # noqa: E402

#: Another name than the default is for two demos on one cluster.
SHOP = os.environ.get("S3GC_DEMO_NAMESPACE", "s3gc-demo")
OPERATOR = f"{SHOP}-system"
DEMO = ROOT / "examples" / "demo-cluster"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Servers:
    """Where the demo's bucket and database are."""

    s3: str
    access_key: str
    secret_key: str
    database: str


def say(text: str) -> None:
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


class Demo:
    """The story. Every command that a person would type is shown as it is typed."""

    def __init__(self, cluster: Kubernetes, servers: Servers | None) -> None:
        self.cluster = cluster
        self.on_host = cluster.is_ours
        password = secrets.token_hex(12)
        self.servers = servers or Servers(
            f"http://minio.{SHOP}.svc:9000",
            "demo",
            password,
            f"postgresql://s3gc:{password}@postgres.{SHOP}.svc:5432/shop",
        )
        self.started = time.monotonic()

    def show(self, *words: str) -> None:
        print(f"$ kubectl {' '.join(words)}", flush=True)
        print(self.cluster.kubectl(*words), end="", flush=True)

    def apply(self, *manifests: Manifest) -> None:
        self.cluster.apply(*manifests, words=["-n", SHOP])

    # --- arranging --------------------------------------------------------------------------

    def prepare(self) -> None:
        say("Two namespaces: one for the operator, one for the shop; the shop's Secret")
        labels = {} if self.on_host else RESTRICTED
        for name in (OPERATOR, SHOP):
            self.cluster.apply(
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
            )
        values = {
            "AWS_ACCESS_KEY_ID": self.servers.access_key,
            "AWS_SECRET_ACCESS_KEY": self.servers.secret_key,
            "url": self.servers.database,
        }
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo"}, "stringData": values})
        if not self.on_host:
            self.cluster.kubectl("apply", "-n", SHOP, "-f", str(DEMO / "servers.yaml"))
        script = {"seed.py": (DEMO / "seed.py").read_text()}
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seed"}, "data": script})
        print(self.run_seed("fill"), end="", flush=True)

    def run_seed(self, verb: str) -> str:
        """Run seed.py as a Job, in s3gc's own image, and return what it printed."""
        name = f"seed-{verb}-{secrets.token_hex(3)}"
        given: Manifest = {"secretRef": {"name": "demo"}}
        container: Manifest = {
            "name": "seed",
            "image": self.cluster.image(),
            "imagePullPolicy": "IfNotPresent",
            "command": ["python", "/seed/seed.py", verb],
            "envFrom": [given],
            "env": [
                {"name": "DEMO_S3", "value": self.servers.s3},
                {"name": "DEMO_DATABASE", "value": self.servers.database},
            ],
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "volumeMounts": [{"name": "seed", "mountPath": "/seed"}],
        }
        pod = {
            "restartPolicy": "Never",
            "hostNetwork": self.on_host,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "seed", "configMap": {"name": "seed"}}],
        }
        job = {"backoffLimit": 0, "template": {"spec": pod}}
        self.apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": job})
        self.wait(f"job/{name}", "Complete", 240)
        return self.cluster.kubectl("-n", SHOP, "logs", f"job/{name}")

    def wait(self, what: str, condition: str, seconds: int) -> None:
        self.cluster.kubectl(
            "-n",
            SHOP,
            "wait",
            f"--for=condition={condition}",
            what,
            f"--timeout={seconds}s",
            timeout_seconds=seconds + 20,
        )

    def install(self) -> None:
        say("The operator, by its chart")
        repository, _, tag = self.cluster.image().rpartition(":")
        values: Manifest = {
            "image": {"repository": repository, "tag": tag},
            "watch": {"namespaces": [SHOP]},
            "operator": {"progressSeconds": 2},
            "rbac": {"userRoles": False},
        }
        if self.on_host:  # the test bed has no Services, and its servers are on the machine's loopback
            values |= {
                "hostNetwork": True,
                "listenAddress": "127.0.0.1",
                "port": services.free_port(),
                "extraEnv": [{"name": k, "value": v} for k, v in self.cluster.pod_environment.items()],
            }
        print(
            f"$ helm upgrade --install s3gc charts/s3gc --namespace {OPERATOR} --set image.repository={repository} …"
        )
        words = [f"--set-json={name}={json.dumps(value)}" for name, value in values.items()]
        self.cluster.helm(
            "upgrade", "--install", "s3gc", str(ROOT / "charts" / "s3gc"), "--namespace", OPERATOR, "--wait",
            "--take-ownership", "--timeout=180s", *words, timeout_seconds=240,
        )  # fmt: skip
        self.show("-n", OPERATOR, "get", "deployment,pods")

    # --- the story --------------------------------------------------------------------------

    def policy(self, mode: str) -> Manifest:
        here = {"endpointURL": self.servers.s3, "pathStyle": True, "credentialsSecretRef": {"name": "demo"}}
        users = {"table": "users", "columns": [{"name": "avatar_url"}]}
        posts = {"table": "posts", "columns": [{"name": "body", "format": "text"}]}
        shop = {
            "name": "shop",
            "database": {"urlSecretRef": {"name": "demo", "key": "url"}},
            "tables": [users, posts],
        }
        return {
            "apiVersion": "s3gc.dev/v1",
            "kind": "BucketGC",
            "metadata": {"name": "media"},
            "spec": {
                "bucket": {"name": "shop-media", "baseURLs": [{"url": "https://cdn.shop.example/"}], **here},
                "references": [shop],
                "mode": mode,
                "approval": "Manual",
                "retentionDays": 0,
                "unreferencedDays": 0,
                "vault": {"s3": {"bucket": "shop-vault", "prefix": "media/", **here}},
                "schedule": "30 2 * * *",
                "job": {"hostNetwork": self.on_host},
            },
        }

    def cycle(self, annotation: str, token: str) -> Manifest:
        """Set an annotation and wait until the cycle that it asks for is over."""
        before = (
            self.status().get("lastCycle", {}).get("operationID"),
            self.status().get("lastCycle", {}).get("jobName"),
        )
        self.show("-n", SHOP, "annotate", "bgc", "media", "--overwrite", f"{annotation}={token}")

        def ended() -> Manifest | None:
            status = self.status()
            last: Manifest = status.get("lastCycle") or {}
            is_new = bool(last) and (last.get("operationID"), last.get("jobName")) != before
            return last if is_new and not status.get("active") else None

        return self.cluster.eventually(f"the cycle that {annotation} asks for", ended, 240)

    def status(self) -> Manifest:
        found: Manifest = self.cluster.get("-n", SHOP, "bgc", "media").get("status", {})
        return found

    def look(self) -> None:
        say("A policy that only looks, and a cycle of it now")
        self.apply(self.policy("DryRun"))
        self.wait("bgc/media", "Ready", 60)
        last = self.cycle("s3gc.dev/run-requested-at", "1")
        self.show("-n", SHOP, "get", "bgc,jobs")
        print(
            f"{last['outcome']}: {last['verifiedOrphans']} of {last['totalScanned']} objects would go. What was read:"
        )
        for column in last.get("coverage", ()):
            print(
                f"  {column['column']}: {column['values']} values, {column['resolved']} name an object that exists"
            )

    def delete(self) -> None:
        say("The same policy, executing; a person approves exactly the plan that was made")
        self.apply(self.policy("Execute"))
        self.cycle("s3gc.dev/run-requested-at", "2")
        pending = self.status()["pendingApproval"]
        print(f"A plan of {pending['objects']} objects ({pending['bytes']:,} bytes) waits.")
        last = self.cycle("s3gc.dev/approve", pending["planDigest"])
        self.show("-n", SHOP, "get", "bgc")
        print(f"{last['outcome']}: {last['backedUpCount']} backed up, {last['deletedCount']} deleted.")
        print(self.run_seed("look"), end="", flush=True)

    def restore(self) -> None:
        say("Everything back")
        spec = {"bucketGCRef": {"name": "media"}, "latest": True}
        name = f"undo-{secrets.token_hex(3)}"
        self.apply(
            {"apiVersion": "s3gc.dev/v1", "kind": "GCRestore", "metadata": {"name": name}, "spec": spec}
        )
        print(f"$ kubectl -n {SHOP} wait --for=condition=Succeeded gcrestore/{name}", flush=True)
        self.wait(f"gcrestore/{name}", "Succeeded", 240)
        self.show("-n", SHOP, "get", "gcr")
        seen = self.run_seed("look")
        print(seen, end="", flush=True)
        if not seen.startswith("60 objects are as they were, 0 are gone, 0 differ"):
            raise SystemExit("that is not what should have come back")

    def after(self) -> None:
        say(f"That was all of it, in {time.monotonic() - self.started:.0f} seconds. What to look at next:")
        print(
            f"  export KUBECONFIG={self.cluster.kubeconfig}\n"
            f"  kubectl -n {SHOP} describe bgc media              conditions, numbers, coverage, events\n"
            f"  kubectl -n {SHOP} get bgc media -o yaml           the whole status, history included\n"
            f"  kubectl -n {SHOP} logs job/<name>                 what a cycle said\n"
            f"  kubectl explain bucketgc.spec                    every field\n"
            f"  docs/operator.md, examples/kubernetes/           your own bucket and database\n"
        )

    def remove(self) -> None:
        self.cluster.helm("uninstall", "s3gc", "--namespace", OPERATOR, "--wait", check=False)
        self.cluster.kubectl("delete", "namespace", SHOP, OPERATOR, "--wait=false", check=False)


def _hold(until: Callable[[], str]) -> None:
    """Leave everything as it is until a person has seen enough; without a person go on."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        try:
            input(until())
        except (KeyboardInterrupt, EOFError):
            print()
    else:
        print("No terminal, so everything is removed again; in one it stays until you press Enter.")


def _own_servers(home: services.Home) -> Servers:
    store, database = services.start_minio(home), services.start_postgres(home)
    return Servers(store.endpoint, store.access_key, store.secret_key, database.url)


def main() -> None:
    kubeconfig, image = os.environ.get("KUBECONFIG"), os.environ.get("IMAGE")
    if kubeconfig == str(Cluster().kubeconfig):
        kubeconfig = None  # this machine's own, as `cluster.py env` says it
    if kubeconfig and not image:
        raise SystemExit(
            f"KUBECONFIG names {kubeconfig}. To use that cluster say which image of s3gc it can pull:\n"
            "  make demo-cluster IMAGE=registry.example/s3gc:0.1.0\n"
            "To start one on this machine: KUBECONFIG= make demo-cluster"
        )
    home: services.Home | None = None
    cluster: Kubernetes | None = None
    try:
        if kubeconfig and image:
            cluster, servers = Kubernetes(Path(kubeconfig), None, image), None
        else:
            say("A Kubernetes, a MinIO and a PostgreSQL on this machine, on loopback")
            os.environ.pop("KUBECONFIG", None)
            cluster, home = Kubernetes.acquire(with_node=True), services.Home()
            servers = _own_servers(home)
        demo = Demo(cluster, servers)
        try:
            demo.show("get", "nodes")
            say("The image (a minute, the first time)")
            print(cluster.image())
            for step in (demo.prepare, demo.install, demo.look, demo.delete, demo.restore, demo.after):
                step()
            _hold(lambda: "Everything runs on. Press Enter to remove it. ")
        finally:
            demo.remove()
    except (
        RuntimeError,
        AssertionError,
        FileNotFoundError,
        KubernetesError,
        subprocess.CalledProcessError,
    ) as error:
        raise SystemExit(str(error)) from error
    finally:
        if cluster is not None:
            cluster.release()
        if home is not None:
            home.close()


if __name__ == "__main__":
    main()
