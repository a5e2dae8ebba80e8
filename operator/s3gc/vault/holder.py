"""Who holds a lock, said so that another process on the same machine can tell whether that process still
lives.

A process id alone says nothing: ids are reused, a reboot starts them anew, and two containers on one machine
both have a process 1. So a holder is its boot, its PID namespace, its id and the time that process started;
only when all of these can be compared here is a holder called dead, and in any doubt it is called unknown,
which costs a minute's wait.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["Holder", "this_process"]


@dataclass(frozen=True, slots=True)
class Holder:
    """`boot_id`, `pid_namespace` and `started` are empty where the system does not tell them."""

    host: str
    pid: int
    boot_id: str = ""
    pid_namespace: str = ""
    started: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Holder:
        names = ("boot_id", "pid_namespace", "started")
        return cls(
            str(value.get("host", "")),
            int(value.get("pid", 0)),
            *(str(value.get(name, "")) for name in names),
        )

    def state(self) -> Literal["alive", "dead", "unknown"]:
        """Whether that process lives, as far as this process can tell."""
        me = this_process()
        if not (self.boot_id and self.pid_namespace and self.started and self.pid > 0):
            return "unknown"
        if (self.boot_id, self.pid_namespace) != (me.boot_id, me.pid_namespace):
            return "unknown"  # another machine, another container, or this machine before its reboot
        return "alive" if _started(self.pid) == self.started else "dead"

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Holder:
    pid = os.getpid()
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # no /proc here: every holder is unknown, and only an unrenewed lease is taken over
        namespace = boot_id = ""
    return Holder(socket.gethostname(), pid, boot_id, namespace, _started(pid))


def _started(pid: int) -> str:
    """Ticks since boot when that process started (proc(5), field 22), or "" when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    # The command's name is in parentheses and may itself hold spaces and parentheses.
    fields = stat.rpartition(b")")[2].split()
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
