"""Images of the test bed, built by buildah without a registry: pause, a base with Python, the project's own.

Where a registry is reached the Dockerfile builds from the official slim Python. Here Debian's own Python on a minimal
root stands in for it, made by debootstrap from the mirror that this machine's apt uses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.testbed import tools
from tests.testbed.mirror import debian_mirror
from tests.testbed.node import Node

ROOT = Path(__file__).resolve().parents[2]
PAUSE = "localhost/pause:1"
BASE = "localhost/python-base:bookworm"
REPOSITORY = "localhost/s3gc"

#: What goes into the project's image. A change of any of these is a new image, everything else is not.
INPUTS = ("Dockerfile", ".dockerignore", "pyproject.toml", "requirements-*.lock", "LICENSE", "README.md")

#: Certificates and indexes that this machine's own pip and uv are configured with.
_PASSED_ON = ("PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

_PAUSE_PROGRAM = """\
#include <signal.h>
#include <unistd.h>
static void quit(int s) { (void)s; _exit(0); }
int main(void) { signal(SIGINT, quit); signal(SIGTERM, quit); for (;;) pause(); }
"""


def _buildah(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
    return subprocess.run(["buildah", *words], env=environment, text=True, **{"check": True, **options})  # type: ignore[call-overload,no-any-return]


def has_image(tag: str) -> bool:
    return _buildah("inspect", "--type", "image", tag, check=False, capture_output=True).returncode == 0


def _folder(name: str) -> Path:
    folder = tools.home() / "images" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def load(node: Node, tag: str) -> None:
    """Put an image into the node, unless it is there. Images stay in the node when the cluster goes down."""
    listed = subprocess.run(
        node.ctr("images", "ls", "-q", f"name=={tag}"), capture_output=True, text=True, check=True
    )
    here = _image_id(tag)
    stamp = node.folder / "loaded" / tag.replace("/", "_").replace(":", "_")
    if tag in listed.stdout.split() and stamp.exists() and stamp.read_text() == here:
        return
    folder = _folder("load")
    archive = folder / "image.tar"
    _buildah("push", "-q", tag, f"docker-archive:{archive}:{tag}")
    subprocess.run(node.ctr("images", "import", str(archive)), check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(folder)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(here)


def _image_id(tag: str) -> str:
    return _buildah(
        "inspect", "--type", "image", "--format", "{{.FromImageID}}", tag, capture_output=True
    ).stdout


def pause_image() -> str:
    """What holds a pod's namespaces: a program that waits."""
    if not has_image(PAUSE):
        folder = _folder("pause")
        (folder / "pause.c").write_text(_PAUSE_PROGRAM)
        subprocess.run(["gcc", "-O2", "-static", "-o", folder / "pause", folder / "pause.c"], check=True)
        (folder / "Dockerfile").write_text('FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n')
        _buildah("build", "-q", "-t", PAUSE, str(folder), stdout=subprocess.DEVNULL)
        shutil.rmtree(folder)
    return PAUSE


def base_image() -> str:
    """Debian's Python on a minimal root (about a minute, once)."""
    if has_image(BASE):
        return BASE
    folder = _folder("base")
    packages = "--include=python3,python3-venv,ca-certificates"
    command = [
        "debootstrap",
        "--variant=minbase",
        packages,
        "bookworm",
        str(folder / "root"),
        *debian_mirror(),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    left_out = (
        "./var/cache/apt",
        "./var/lib/apt/lists",
        "./dev",
        "./usr/share/doc",
        "./usr/share/man",
        "./usr/share/locale",
    )
    archive = [
        "tar",
        "-C",
        str(folder / "root"),
        *(f"--exclude={each}" for each in left_out),
        "-cf",
        str(folder / "root.tar"),
        ".",
    ]
    subprocess.run(archive, check=True)
    (folder / "Dockerfile").write_text("FROM scratch\nADD root.tar /\n")
    _buildah("build", "-q", "-t", BASE, str(folder), stdout=subprocess.DEVNULL)
    shutil.rmtree(folder)
    return BASE


def digest_of_inputs(root: Path = ROOT) -> str:
    """A short hash of everything that the project's image is made of."""
    sources = (root / "operator").rglob("*")
    paths = [path for pattern in INPUTS for path in root.glob(pattern)]
    paths += [path for path in sources if path.is_file() and "__pycache__" not in path.parts]
    digest = hashlib.sha256()
    for path in sorted(paths):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root)} {content}\n".encode())
    return digest.hexdigest()[:16]


def build(tag: str, root: Path = ROOT) -> str:
    """Build `root`'s Dockerfile on the base image, with layers kept, so that only what changed is built again."""
    words = ["build", "-q", "--layers", "--network=host", "--timestamp=0", "-t", tag]
    words += ["--build-arg", f"BASE_IMAGE={base_image()}"]
    if _CERTIFICATES.exists():  # pip and uv inside the build trust what this machine trusts
        words += ["-v", f"{_CERTIFICATES}:{_CERTIFICATES}:ro"]
        for variable in ("PIP_CERT", "SSL_CERT_FILE"):
            words += ["--build-arg", f"{variable}={_CERTIFICATES}"]
    for variable in _PASSED_ON:
        if os.environ.get(variable):
            words += ["--build-arg", f"{variable}={os.environ[variable]}"]
    _buildah(*words, str(root), stdout=subprocess.DEVNULL)
    return tag


def project_image(root: Path = ROOT) -> str:
    """The tag of the project's image as the files of `root` are now; built when there is none yet."""
    tag = f"{REPOSITORY}:{digest_of_inputs(root)}"
    return tag if has_image(tag) else build(tag, root)
