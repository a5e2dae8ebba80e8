"""MySQL itself, which Debian's stable releases do not have: the packages of Debian unstable, unpacked into a folder.

Nothing of it touches the system. apt keeps a state of its own in that folder, checks Debian's signature as always, and
only downloads; the packages are unpacked, and the server runs with the C library and the linker that came with it.

    python -m tests.testbed.mysqltree    fetch it into the test bed's folder, once
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

from tests.testbed import tools
from tests.testbed.mirror import debian_mirror

__all__ = ["fetch", "is_fetched", "mysqld"]

PACKAGE = "mysql-server-core"
_SUITE = "unstable"
_KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
#: Of no use to a server, and most of the files.
_UNUSED = ("usr/share/doc", "usr/share/man", "usr/share/perl", "usr/share/locale")


def _root() -> Path:
    return tools.home() / "mysql"


def is_fetched() -> bool:
    return (_root() / "complete").exists()


def fetch() -> None:
    """Download and unpack it unless it is there. Raises SystemExit with the way on."""
    home = tools.home()
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".mysql.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_fetched():
            return
        mirror = debian_mirror()
        if not mirror or shutil.which("apt-get") is None:
            raise SystemExit(
                "MySQL comes from Debian's packages, and this machine has no Debian mirror in /etc/apt: start a MySQL "
                "8.0 or later of your own and name it by S3GC_TEST_MYSQL_DSN (docs/development.md)"
            )
        print(f"fetching {PACKAGE} of Debian {_SUITE} into {_root()}", flush=True)
        unfinished = home / "mysql.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        _download(unfinished / "apt", mirror[0])
        for package in sorted((unfinished / "apt" / "cache" / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(unfinished)], check=True)
        for folder in ("apt", *_UNUSED):
            shutil.rmtree(unfinished / folder, ignore_errors=True)
        _version(unfinished)
        (unfinished / "complete").touch()
        shutil.rmtree(_root(), ignore_errors=True)
        unfinished.rename(_root())


def mysqld() -> list[str]:
    """The words that start the server; options follow. Raises FileNotFoundError with the way on."""
    if not is_fetched():
        raise FileNotFoundError(
            f"MySQL is not in {_root()}: run `make tools`, or set S3GC_TEST_MYSQL_DSN to a server"
        )
    return _words(_root())


def _words(root: Path) -> list[str]:
    linkers = sorted(root.glob("usr/lib*/ld-linux*.so.*")) or sorted(root.glob("lib*/ld-linux*.so.*"))
    libraries = [str(path) for path in sorted(root.glob("usr/lib/*-linux-gnu*"))]
    if not linkers or not libraries:
        raise SystemExit(
            f"the packages in {root} brought no linker or no libraries: their layout has changed"
        )
    server = [str(linkers[0]), "--library-path", ":".join(libraries), str(root / "usr/sbin/mysqld")]
    folders = [
        f"--lc-messages-dir={root / 'usr/share/mysql'}",
        f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
    ]
    return [*server, "--no-defaults", *folders]


def _version(root: Path) -> str:
    """What the server calls itself; also proves that it runs here."""
    done = subprocess.run([*_words(root), "--version"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the MySQL in {root} does not run here: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _download(folder: Path, mirror: str) -> None:
    for name in ("state/lists/partial", "cache/archives/partial", "none"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    signed = f"[signed-by={_KEYS}] " if Path(_KEYS).exists() else ""
    (folder / "sources.list").write_text(f"deb {signed}{mirror} {_SUITE} main\n")
    (folder / "apt.conf").write_text(
        f'Dir::State "{folder}/state";\nDir::State::status "{folder}/status";\nDir::Cache "{folder}/cache";\n'
        f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::sourceparts "{folder}/none";\n'
        f'Dir::Etc::preferences "{folder}/none/none";\nDir::Etc::preferencesparts "{folder}/none";\n'
        'APT::Install-Recommends "false";\nAPT::Sandbox::User "";\nAcquire::Languages "none";\n'
        'Acquire::Retries "3";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "--download-only", "-y", PACKAGE]):
        done = subprocess.run(
            ["apt-get", "-qq", *words], env=environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise SystemExit(
                f"`apt-get {' '.join(words)}` from Debian {_SUITE} failed: {done.stderr.strip()[-500:]}. Try again, or "
                "name a MySQL of your own by S3GC_TEST_MYSQL_DSN (docs/development.md)"
            )


if __name__ == "__main__":
    if not os.environ.get("S3GC_TEST_MYSQL_DSN"):
        fetch()
