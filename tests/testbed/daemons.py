"""Processes that outlive who started them: the parts of the test bed's Kubernetes.

The servers of `processes` end with the tests that own them. A cluster is shared by everybody on the machine and kept
between runs, so its parts are known by pid files. A pid is written with the start time of its process: after a
reboot, or when the number has come to be somebody else's, the pid is simply not alive.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.testbed import tools
from tests.testbed.processes import plain_environment


def start_time(pid: int) -> str:
    """When a process started, in the kernel's ticks; empty for one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def identity(pid: int) -> str:
    return f"{pid} {start_time(pid)}"


def is_alive(identity_: str) -> bool:
    pid, _, started = identity_.strip().partition(" ")
    return pid.isdigit() and started != "" and start_time(int(pid)) == started


def wait_until(what: str, is_ready: Callable[[], bool], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_ready():
            return
        time.sleep(0.2)
    tail = log.read_text(errors="replace")[-3000:] if log.exists() else "there is no log"
    raise RuntimeError(f"{what} is not ready after {seconds:.0f} s; the end of {log}:\n{tail}")


@dataclass(frozen=True)
class Daemon:
    """One part: its name, what starts it, and where its pid and its log are."""

    folder: Path
    name: str
    command: Sequence[str]

    @property
    def log(self) -> Path:
        return self.folder / "log" / f"{self.name}.log"

    @property
    def _pid_file(self) -> Path:
        return self.folder / "pid" / self.name

    @property
    def pid(self) -> int | None:
        try:
            text = self._pid_file.read_text()
        except OSError:
            return None
        return int(text.split()[0]) if is_alive(text) else None

    def start(self) -> None:
        """Start it, unless it runs."""
        if self.pid is not None:
            return
        for path in (self.log, self._pid_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                list(self.command),
                cwd=self.folder,
                env={**plain_environment(), "S3GC_TOOLS": str(tools.home())},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._pid_file.write_text(identity(process.pid))

    def end(self, number: signal.Signals = signal.SIGTERM, seconds: float = 20) -> None:
        """Send it a signal and wait until it is gone; SIGKILL when it takes longer."""
        pid = self.pid
        if pid is not None:
            _kill(pid, number)
            deadline = time.monotonic() + seconds
            while self.pid is not None:
                _reap(pid)
                if time.monotonic() > deadline:
                    _kill(pid, signal.SIGKILL)
                time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _reap(pid: int) -> None:
    """Take the exit status where the process is a child of ours; who started it earlier has gone, mostly."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def end_all(pids: Iterable[int]) -> None:
    """SIGKILL to processes that a part left behind."""
    for pid in pids:
        _kill(pid, signal.SIGKILL)
