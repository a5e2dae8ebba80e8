"""Server processes and the folder they live in: started on free ports, ended by pid, whatever happens.

Data lies in one temporary folder per process, `Home`. A watchdog process holds the read end of a pipe and
the pids of the servers: when this process ends in any way at all (SIGKILL included), the pipe closes and
the watchdog ends the servers and removes the folder. Under pytest-xdist each worker is a process, so each
has its own servers. (PR_SET_PDEATHSIG would be shorter, but it follows the thread that started a server,
not the process.)
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: How long a server may take to answer after its start, in seconds. Generous: machines that build are slow.
START_SECONDS = 90

_WATCHDOG = """
import os, shutil, signal, sys, time
for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(name, signal.SIG_IGN)
servers = {}
for line in sys.stdin:
    word, pid, started, number = line.split()
    if word == "+":
        servers[int(pid)] = (started, int(number))
    else:
        servers.pop(int(pid), None)
def alive(pid, started):
    try:
        fields = open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[19] == started and fields[0] != "Z"
def end(number_of):
    for pid, (started, number) in servers.items():
        if alive(pid, started):
            try:
                os.kill(pid, number_of(number))
            except OSError:
                pass
end(lambda number: number)
for _ in range(50):
    if not any(alive(pid, started) for pid, (started, _) in servers.items()):
        break
    time.sleep(0.1)
end(lambda number: signal.SIGKILL)
shutil.rmtree(sys.argv[1], ignore_errors=True)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return "0"


class Home:
    """The temporary folder of one process's servers, and the watchdog that outlives this process briefly."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="s3gc-testbed-"))
        self.path.chmod(0o755)  # PostgreSQL and MariaDB run as other users below it
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-c", _WATCHDOG, str(self.path)],
            stdin=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd="/",
            start_new_session=True,
        )

    def tell(self, word: str, pid: int, signal_number: int) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(f"{word} {pid} {_start_time(pid)} {signal_number}\n")
        self._watchdog.stdin.flush()

    def folder(self, name: str, owner: str | None = None) -> Path:
        path = self.path / name
        path.mkdir(parents=True)
        if owner is not None:
            shutil.chown(path, owner)
        return path

    def close(self, timeout_seconds: float = 300) -> None:
        """End what still runs and remove the folder (minutes, for a MinIO full of a benchmark's objects)."""
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait(timeout=timeout_seconds)


@dataclass
class Process:
    """One server process that can be stopped, killed and started again on the same port with the same data.

    `user` is whom it runs as when we are root; `stop_signal` asks it to end at once but in order,
    `kill_signal` is its crash.
    """

    home: Home
    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]
    environment: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    _process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home.path / f"{self.name}.log"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    def start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(
                    list(self.command),
                    env={**plain_environment(), **self.environment},
                    cwd=self.home.path,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    **run_as(self.user),
                )
            self.home.tell("+", self._process.pid, self.stop_signal)
            while self._process.poll() is None and time.monotonic() < deadline:
                if self.is_ready():
                    return
                time.sleep(0.05)
            # It may have ended because the one that crashed is not quite gone (PostgreSQL's shared memory).
            ended = self._process.poll() is not None
            self._end(signal.SIGKILL)
            if not ended or time.monotonic() > deadline - START_SECONDS + 15:
                tail = self.log.read_text(errors="replace")[-3000:]
                raise RuntimeError(
                    f"{self.name} did not start within {START_SECONDS} s; the end of its log:\n{tail}"
                )
            time.sleep(0.5)

    def stop(self) -> None:
        """End it in order (it forgets nothing that it promised)."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """End it as a crash does. `restart()` brings it back on the same port with the same data."""
        self._end(self.kill_signal)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(number)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=20)
        self.home.tell("-", process.pid, 0)


def plain_environment() -> dict[str, str]:
    keep = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
    return {name: os.environ[name] for name in keep if name in os.environ}


def run_as(user: str | None) -> dict[str, Any]:
    """Popen's arguments that change to `user`; empty unless we are root."""
    if user is None or os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def unprivileged(*names: str) -> str | None:
    """The first user of `names` here, for servers that refuse to run as root; None when we are not root."""
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            pwd.getpwnam(name)
            return name
    raise RuntimeError(f"none of the users {names} exists to run a server as")


def not_ours(variable: str) -> RuntimeError:
    return RuntimeError(f"the server that {variable} names is not ours to stop; unset it to run this test")
