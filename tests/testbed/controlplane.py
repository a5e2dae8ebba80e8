"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler, on free ports of 127.0.0.1.

Their ports and tokens are drawn at the first `up` and kept in the cluster's folder, so that each part comes back where it
was. The API server makes its own certificate, which clients check; the tokens are the only credentials, and the
files that hold them are for their owner alone.
"""

from __future__ import annotations

import json
import secrets
import ssl
import subprocess
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.testbed import tools
from tests.testbed.daemons import Daemon, wait_until
from tests.testbed.processes import free_port

ADMIN, NODE = "admin", "node"
NODE_NAME = "localhost"


@dataclass(frozen=True)
class Settings:
    """What is drawn once for a cluster."""

    api_port: int
    etcd_port: int
    etcd_peer_port: int
    kubelet_port: int
    admin_token: str
    node_token: str

    @classmethod
    def of(cls, folder: Path) -> Settings:
        path = folder / "settings.json"
        if not path.exists():
            drawn = cls(
                free_port(),
                free_port(),
                free_port(),
                free_port(),
                secrets.token_hex(16),
                secrets.token_hex(16),
            )
            _private(path, json.dumps(asdict(drawn)))
        return cls(**json.loads(path.read_text()))


def _private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text)


class ControlPlane:
    """The four processes that are a cluster without a node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings.of(folder)
        self.url = f"https://127.0.0.1:{self.settings.api_port}"
        self.parts = {part.name: part for part in self._parts()}

    @property
    def certificate(self) -> Path:
        return self.folder / "pki" / "apiserver.crt"

    def kubeconfig(self, user: str = ADMIN) -> Path:
        return self.folder / f"{user}.kubeconfig"

    def _parts(self) -> list[Daemon]:
        pki, here = self.folder / "pki", self.settings
        etcd = f"http://127.0.0.1:{here.etcd_port}"

        def part(name: str, *options: str) -> Daemon:
            return Daemon(self.folder, name, [str(tools.home() / "bin" / name), *options])

        return [
            part(
                "etcd",
                f"--data-dir={self.folder / 'etcd'}",
                "--unsafe-no-fsync",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{here.etcd_peer_port}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{here.etcd_peer_port}",
                f"--initial-cluster=default=http://127.0.0.1:{here.etcd_peer_port}",
                "--log-level=warn",
            ),
            part(
                "kube-apiserver",
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                f"--secure-port={here.api_port}",
                f"--cert-dir={pki}",
                "--endpoint-reconciler-type=none",
                f"--service-account-key-file={pki / 'sa.pub'}",
                f"--service-account-signing-key-file={pki / 'sa.key'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=Node,RBAC",
                f"--token-auth-file={pki / 'tokens.csv'}",
                "--allow-privileged=true",
                "--kubelet-preferred-address-types=Hostname",
            ),
            part(
                "kube-controller-manager",
                f"--kubeconfig={self.kubeconfig()}",
                f"--service-account-private-key-file={pki / 'sa.key'}",
                f"--root-ca-file={self.certificate}",
                "--use-service-account-credentials",
                "--leader-elect=false",
                "--secure-port=0",
            ),
            part(
                "kube-scheduler",
                f"--kubeconfig={self.kubeconfig()}",
                "--leader-elect=false",
                "--secure-port=0",
            ),
        ]

    def up(self) -> None:
        """Start what does not run, each when what it needs answers."""
        self._keys()
        for name in ("etcd", "kube-apiserver"):
            self.parts[name].start()
        self.wait_for_api()
        for user in (ADMIN, NODE):
            self._write_kubeconfig(user)
        for name in ("kube-controller-manager", "kube-scheduler"):
            self.parts[name].start()
        wait_until(
            "the default service account",
            lambda: self.get("/api/v1/namespaces/default/serviceaccounts/default") is not None,
            90,
            self.parts["kube-controller-manager"].log,
        )

    def wait_for_api(self) -> None:
        wait_until(
            "kube-apiserver", lambda: self.get("/readyz") == "ok", 120, self.parts["kube-apiserver"].log
        )

    def down(self) -> None:
        for name in ("kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd"):
            self.parts[name].end()

    def _keys(self) -> None:
        pki = self.folder / "pki"
        pki.mkdir(parents=True, exist_ok=True)
        pki.chmod(0o700)
        if not (pki / "sa.pub").exists():
            for words in (
                ("genrsa", "-out", str(pki / "sa.key"), "2048"),
                ("rsa", "-in", str(pki / "sa.key"), "-pubout", "-out", str(pki / "sa.pub")),
            ):
                subprocess.run(["openssl", *words], check=True, stderr=subprocess.DEVNULL)
        rows = (
            (self.settings.admin_token, ADMIN, ADMIN, "system:masters"),
            (self.settings.node_token, f"system:node:{NODE_NAME}", NODE, "system:nodes"),
        )
        _private(pki / "tokens.csv", "".join(",".join(row) + "\n" for row in rows))

    def _write_kubeconfig(self, user: str) -> None:
        token = {ADMIN: self.settings.admin_token, NODE: self.settings.node_token}[user]
        cluster = {"server": self.url, "certificate-authority": str(self.certificate)}
        text = json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "testbed",
                "clusters": [{"name": "testbed", "cluster": cluster}],
                "users": [{"name": user, "user": {"token": token}}],
                "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": user}}],
            },
            indent=1,
        )
        _private(self.kubeconfig(user), text)

    def get(self, path: str) -> Any:
        """What the API server answers to a GET: an object, a text, or None for any failure."""
        request = urllib.request.Request(
            self.url + path, headers={"Authorization": f"Bearer {self.settings.admin_token}"}
        )
        try:
            context = ssl.create_default_context(cafile=str(self.certificate))
            opener = urllib.request.build_opener(
                urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
            )
            with opener.open(request, timeout=5) as answer:
                body = answer.read().decode()
        except OSError:
            return None
        return json.loads(body) if body.startswith("{") else body
