#!/usr/bin/env python3
"""A real one-node Kubernetes on loopback, from Go modules and Debian packages alone.

    python tests/testbed/cluster.py up [--no-node]   start it, and keep it until `down`
    python tests/testbed/cluster.py env              shell exports: KUBECONFIG and PATH
    python tests/testbed/cluster.py image [TAG]      build the project's image and load it into the node
    python tests/testbed/cluster.py status           what runs, and who uses it
    python tests/testbed/cluster.py down             stop it

One cluster serves everybody on the machine. Tests find the running one or start one; whoever is last to leave ends one that
tests started, and a watcher does when a test run is killed. One that `up` started stays. Each test makes a
namespace of its own. State lies in ``$S3GC_TOOLS/cluster`` (default ``~/.cache/s3gc-testbed/cluster``).

To test on a cluster of your own set KUBECONFIG and S3GC_TEST_IMAGE, the name of an image that it can pull; both, so that a
KUBECONFIG which happens to be set never sends tests to a cluster that is in use.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.testbed import daemons, images, node, tools
from tests.testbed.controlplane import ControlPlane
from tests.testbed.node import Node


class Cluster:
    """The shared cluster of this machine: who uses it, its start and its end.

    With a `state` folder it is another one, of whoever names that folder; without a node, since two kubelets on one
    machine would end each other's pods.
    """

    def __init__(self, state: Path | None = None) -> None:
        self._state = state or tools.home()
        self.folder = self._state / "cluster"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._kept = self.folder / "kept"
        self._users = self.folder / "users"
        self._tickets: list[Path] = []
        self._look()

    def _look(self) -> None:
        """Who started it last drew its ports; they may have changed since we looked."""
        self.plane = ControlPlane(self.folder)
        self.node = Node(self.plane)

    @property
    def kubeconfig(self) -> Path:
        return self.plane.kubeconfig()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One at a time starts or stops it; the others wait and look again."""
        with (self._state / ".cluster.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._look()
            yield

    # --- who uses it ------------------------------------------------------------------------

    def _live_users(self) -> list[Path]:
        live = []
        for path in self._users.glob("*") if self._users.exists() else ():
            if daemons.is_alive(path.read_text()):
                live.append(path)
            else:
                path.unlink(missing_ok=True)
        return live

    def acquire(self, with_node: bool = True) -> None:
        """Use the cluster until `release`, starting it where it does not run."""
        with self._alone():
            self._users.mkdir(exist_ok=True)
            ticket = self._users / f"{os.getpid()}-{secrets.token_hex(4)}"
            ticket.write_text(daemons.identity(os.getpid()))
            self._tickets.append(ticket)
            self._up(with_node)
        # Ends the cluster when its users are killed. It holds no handle of ours, so it outlives us.
        watch = [sys.executable, str(Path(__file__).resolve()), "watch", str(self._state)]
        daemons.Daemon(self.folder, "watch", watch).start()

    def release(self) -> None:
        with self._alone():
            self._tickets.pop().unlink(missing_ok=True)
            self._end_if_unused()

    def _end_if_unused(self) -> bool:
        if self._kept.exists() or self._live_users():
            return False
        self._down()
        return True

    def watch(self) -> None:
        """Until nobody uses a cluster that tests started: then end it."""
        while True:
            time.sleep(2)
            with self._alone():
                if self._kept.exists() or not self.is_running() or self._end_if_unused():
                    return

    # --- start and end ----------------------------------------------------------------------

    def is_running(self) -> bool:
        return any(part.pid is not None for part in (*self.plane.parts.values(), self.node.kubelet))

    def up(self, with_node: bool = True) -> None:
        with self._alone():
            self._up(with_node)
            self._kept.touch()

    def _up(self, with_node: bool) -> None:
        reason = node.missing() if with_node else None
        if reason:
            raise RuntimeError(
                f"{reason}. For a cluster of your own set KUBECONFIG and S3GC_TEST_IMAGE (docs/development.md)."
            )
        for name in (
            "etcd",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kubectl",
        ):
            tools.binary(name)
        if not self.is_running():
            self._down()  # what a killed machine or session left: mounts, containers, half a database
        self.plane.up()
        if with_node:
            self.node.start_containerd()
            images.load(self.node, images.pause_image())
            self.node.start_kubelet()

    def down(self) -> None:
        with self._alone():
            self._kept.unlink(missing_ok=True)
            self._down()

    def _down(self) -> None:
        """The images stay; everything else is gone, so that the next start is a new cluster."""
        self.node.down()
        self.plane.down()
        for name in ("etcd", "kubelet", "pods", "pki", "cni", "log"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        for path in (self.folder / "settings.json", *self.folder.glob("*.kubeconfig")):
            path.unlink(missing_ok=True)
        self._look()

    def print_status(self) -> None:
        parts = [*self.plane.parts.values(), self.node.containerd, self.node.kubelet]
        for part in parts:
            print(f"{part.name:<26}{part.pid or 'not running'}")
        print(f"{'kept until `down`':<26}{'yes' if self._kept.exists() else 'no'}")
        print(f"{'used by':<26}{', '.join(path.name for path in self._live_users()) or 'nobody'}")

    # --- faults, for tests ------------------------------------------------------------------

    def crash(self, name: str) -> None:
        """Kill one part as a crash does. `revive()` brings everything back with its data."""
        parts = {**self.plane.parts, "kubelet": self.node.kubelet, "containerd": self.node.containerd}
        parts[name].end(signal.SIGKILL)

    def revive(self) -> None:
        with self._alone():
            self._up(self.node.kubelet.pid is not None or self.node.containerd.pid is not None)

    # --- images -----------------------------------------------------------------------------

    def image(self, tag: str | None = None) -> str:
        """Build the project's image as its files are now, load it, and return its tag."""
        with self._alone():
            tag = images.build(tag) if tag else images.project_image()
            if self.node.containerd.pid is not None:
                images.load(self.node, tag)
        return tag


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser("up", help="start it, and keep it until `down`")
    up.add_argument("--no-node", action="store_true", help="only the API: no pod runs, no root needed")
    verbs.add_parser("env", help="shell exports: KUBECONFIG and PATH")
    image = verbs.add_parser("image", help="build the project's image and load it into the node")
    image.add_argument("tag", nargs="?", help="default: localhost/s3gc:<hash of what goes into it>")
    verbs.add_parser("status", help="what runs, and who uses it")
    verbs.add_parser("down", help="stop it")
    verbs.add_parser("watch").add_argument("state", type=Path)
    options = parser.parse_args()
    cluster = Cluster(getattr(options, "state", None))
    try:
        match options.verb:
            case "up":
                cluster.up(with_node=not options.no_node)
                print(f"export KUBECONFIG={cluster.kubeconfig}")
            case "env":
                print(f"export KUBECONFIG={cluster.kubeconfig} PATH={tools.home() / 'bin'}:$PATH")
            case "image":
                print(cluster.image(options.tag))
            case "status":
                cluster.print_status()
            case "down":
                cluster.down()
            case "watch":
                cluster.watch()
    except (RuntimeError, FileNotFoundError, subprocess.CalledProcessError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
