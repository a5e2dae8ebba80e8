"""The node: containerd and kubelet, as root on Linux.

Pods that must reach anything use the host's network (`hostNetwork: true`). Others are joined by a bridge that the host has no
address on, so no packet leaves the machine and no setting of it (forwarding, iptables) is touched. There are no
Services and no DNS; NetworkPolicies are accepted and not enforced.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.testbed import tools
from tests.testbed.controlplane import NODE, NODE_NAME, ControlPlane
from tests.testbed.daemons import Daemon, end_all, wait_until

#: Debian's packages that a node needs, by a program of each; tools/test-packages.sh installs them.
PROGRAMS = ("containerd", "ctr", "runc", "buildah", "debootstrap", "ip", "iptables", "openssl", "gcc")

_CONTAINERD = """\
version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "localhost/pause:1"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"""

_BRIDGE = "s3gc-testbed"


def _cni(folder: Path) -> dict[str, object]:
    addresses = {
        "type": "host-local",
        "dataDir": f"{folder}/cni/addresses",
        "ranges": [[{"subnet": "10.244.0.0/16"}]],
    }
    plugin = {"type": "bridge", "bridge": _BRIDGE, "isGateway": False, "ipMasq": False, "ipam": addresses}
    return {"cniVersion": "0.4.0", "name": "testbed", "plugins": [plugin]}


def _kubelet_configuration(folder: Path, port: int) -> dict[str, object]:
    """The kubelet's API answers on loopback without a question: logs and exec of the API server need it."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "address": "127.0.0.1",
        "port": port,
        "healthzPort": 0,
        "cgroupDriver": "cgroupfs",
        "makeIPTablesUtilChains": False,
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{folder}/containerd.sock",
        "podLogsDir": f"{folder}/pods",
        # Machines that build are nearly full at times; that must not evict the pods of a test.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
    }


class Node:
    """containerd and kubelet below the cluster's folder, beside any that the machine has."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.folder = plane.folder
        containerd = shutil.which("containerd") or "containerd"
        self.containerd = Daemon(
            self.folder, "containerd", [containerd, "-c", str(self.folder / "containerd.toml")]
        )
        self.kubelet = Daemon(
            self.folder,
            "kubelet",
            [
                str(tools.home() / "bin" / "kubelet"),
                f"--config={self.folder / 'kubelet.json'}",
                f"--kubeconfig={plane.kubeconfig(NODE)}",
                f"--root-dir={self.folder / 'kubelet'}",
                f"--cert-dir={self.folder / 'pki' / 'kubelet'}",
                f"--hostname-override={NODE_NAME}",
            ],
        )

    def ctr(self, *words: str) -> list[str]:
        return ["ctr", "-a", str(self.folder / "containerd.sock"), "-n", "k8s.io", *words]

    def _ctr_lines(self, *words: str) -> list[str]:
        done = subprocess.run(self.ctr(*words), capture_output=True, text=True, check=False)
        return done.stdout.split()

    def start_containerd(self) -> None:
        for name in ("cni", "pods"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "containerd.toml").write_text(_CONTAINERD.format(folder=self.folder))
        (self.folder / "cni" / "10-testbed.conflist").write_text(json.dumps(_cni(self.folder)))
        self.containerd.start()
        wait_until(
            "containerd",
            lambda: subprocess.run(self.ctr("version"), capture_output=True, check=False).returncode == 0,
            60,
            self.containerd.log,
        )

    def start_kubelet(self) -> None:
        configuration = _kubelet_configuration(self.folder, self.plane.settings.kubelet_port)
        (self.folder / "kubelet.json").write_text(json.dumps(configuration, indent=1))
        self.kubelet.start()
        wait_until("the node", self.is_ready, 180, self.kubelet.log)

    def is_ready(self) -> bool:
        found = self.plane.get(f"/api/v1/nodes/{NODE_NAME}")
        if not isinstance(found, dict):
            return False
        conditions = found["status"].get("conditions", [])
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def down(self) -> None:
        """End kubelet, every container, containerd, and what they mounted, also after a crash of any of them."""
        self.kubelet.end()
        if self.containerd.pid is None and self._shims():
            self.start_containerd()  # finds the containers that it left behind, so that they can be ended
        if self.containerd.pid is not None:
            for task in self._ctr_lines("task", "ls", "-q"):
                for words in (("kill", "-s", "SIGKILL", task), ("rm", "-f", task)):
                    subprocess.run(self.ctr("task", *words), capture_output=True, check=False)
            for container in self._ctr_lines("container", "ls", "-q"):
                subprocess.run(self.ctr("container", "rm", container), capture_output=True, check=False)
            self.containerd.end()
        end_all(self._shims())
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((each for each in mounts if each.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", "-l", mount], capture_output=True, check=False)
        if Path("/sys/class/net", _BRIDGE).exists():
            subprocess.run(["ip", "link", "delete", _BRIDGE], capture_output=True, check=False)

    def _shims(self) -> list[int]:
        """The processes between containerd and its containers; they outlive it on purpose."""
        address = f"{self.folder}/containerd.sock"
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                except OSError:
                    continue
                if "containerd-shim" in words[0] and address in words:
                    found.append(int(entry.name))
        return found


def missing() -> str | None:
    """Why this machine cannot be a node, or None."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        return "a node needs Linux and root (containerd and kubelet run on this machine itself)"
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lacking = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    if not Path("/usr/lib/cni/bridge").exists():
        lacking.append("/usr/lib/cni/bridge")
    if lacking:
        return f"{', '.join(lacking)} not found: run `make packages`"
    return None
