"""How a contender is run and measured, and how the numbers are shown and kept.

A contender is a command. Its CPU is what the kernel accounts to the process and to every child it waited for; its
peak memory is VmHWM, which only our own clients report (they print it themselves). Servers are never counted.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench-results"

#: No contender may take longer than this, in seconds.
LIMIT_SECONDS = 4 * 3600


@dataclass
class Measure:
    """One run of one contender. `items` is how many keys or objects it went through."""

    wall_seconds: float
    cpu_seconds: float
    items: int
    rss_mb: float | None = None
    answer: dict[str, Any] = field(default_factory=dict)  # the last line of output, where it is JSON


def run(command: Sequence[str | Path], items: int = 0, env: Mapping[str, str] | None = None) -> Measure:
    """Run `command` to its end and measure it. RuntimeError with the end of its output when it fails.

    A JSON object on its last line of output is kept as `answer`; `items` and `rss_mb` in it win. A number there
    (`wc -l`) is the items.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(word) for word in command],
            env={**_environment(), **(env or {})},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        status, usage = _wait(process)
        wall = time.perf_counter() - started
        out.seek(max(0, out.seek(0, os.SEEK_END) - 200_000))
        text = out.read().decode(errors="replace")
        err.seek(max(0, err.seek(0, os.SEEK_END) - 4_000))
        if status != 0:
            errors = err.read().decode(errors="replace")
            raise RuntimeError(f"{list(command)[:4]} ended with {status}:\n{text[-2000:]}\n{errors}")
    answer: dict[str, Any] = {}
    last = text.rstrip().rpartition("\n")[2]
    if last.startswith("{"):
        answer = json.loads(last)
    elif last.strip().isdigit():
        answer = {"items": int(last)}
    return Measure(
        wall,
        usage.ru_utime + usage.ru_stime,
        int(answer.pop("items", items)),
        answer.pop("rss_mb", None),
        answer,
    )


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, Any]:
    deadline = time.monotonic() + LIMIT_SECONDS
    try:
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode, usage
            if time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} did not end within {LIMIT_SECONDS} s")
            time.sleep(0.005)
    except BaseException:
        process.kill()
        raise


def _environment() -> dict[str, str]:
    """This process's environment without what could change a contender: profiles, endpoints, proxies, Python's switches
    (without bytecode, which every installation has, each start would compile all that it imports)."""
    dropped = (
        "PYTHON",
        "AWS_",
        "S3GC_",
        "PG",
        "http_proxy",
        "https_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    )
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    kept.update(
        AWS_EC2_METADATA_DISABLED="true",
        AWS_CONFIG_FILE="/dev/null",
        AWS_SHARED_CREDENTIALS_FILE="/dev/null",
        NO_PROXY="127.0.0.1",
        PYTHONPATH=f"{ROOT / 'operator'}:{ROOT}",
        LC_ALL="C.UTF-8",
    )
    return kept


def client(name: str, **options: Any) -> list[str]:
    """The command of one of our clients (benchmarks/clients.py) with its options."""
    return [sys.executable, "-m", "benchmarks.clients", name, json.dumps(options)]


def repeat(runs: int, once: Callable[[], Measure]) -> list[Measure]:
    return [once() for _ in range(runs)]


def median(measures: Sequence[Measure], value: Callable[[Measure], float]) -> float:
    return statistics.median(value(measure) for measure in measures)


@dataclass
class Report:
    """One benchmark's table: `columns` after the contender's name, one row a contender."""

    name: str
    title: str
    columns: Sequence[str]
    settings: dict[str, Any]
    rows: list[tuple[str, list[str]]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    measures: dict[str, list[Measure]] = field(default_factory=dict)
    numbers: dict[str, Any] = field(default_factory=dict)

    def add(self, contender: str, cells: Sequence[str], measures: Sequence[Measure] = ()) -> None:
        self.rows.append((contender, list(cells)))
        self.measures[contender] = list(measures)

    def show(self) -> None:
        table = [["", *self.columns], *([name, *cells] for name, cells in self.rows)]
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        shown = (
            f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}"
            for name, value in self.settings.items()
        )
        print(f"\n## {self.title}\n\n({', '.join(shown)})\n")
        rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
        for row in (table[0], rule, *table[1:]):
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
            print(f"| {' | '.join(cells)} |")
        for note in self.notes:
            print(f"\n{note}")
        sys.stdout.flush()

    def save(self) -> Path:
        """Write everything to bench-results/<name>.json, so that a later run can be compared."""
        RESULTS.mkdir(exist_ok=True)
        path = RESULTS / f"{self.name}.json"
        document = {
            "benchmark": self.name,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "settings": self.settings,
            "table": {"columns": list(self.columns), "rows": self.rows},
            "notes": self.notes,
            "numbers": self.numbers,
            "measures": {name: [asdict(m) for m in found] for name, found in self.measures.items()},
        }
        path.write_text(json.dumps(document, indent=1, default=str) + "\n")
        return path

    def finish(self) -> None:
        self.show()
        print(f"\n(written to {self.save().relative_to(ROOT)})")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""

    def first(path: str, start: str) -> str:
        return next((line.partition(":")[2].strip() for line in _lines(path) if line.startswith(start)), "")

    return {
        "cpu": first("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": os.cpu_count(),
        "memory": first("/proc/meminfo", "MemTotal"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load_at_end": round(os.getloadavg()[0], 2),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def peak_rss_mb() -> float:
    """This process's own peak resident memory (VmHWM), in MiB. ru_maxrss would include the parent's at the fork."""
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


def ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}×" if base else ""
