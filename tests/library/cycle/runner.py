"""Runs cycles and restores in processes of their own, so that a test can kill them.

``python -m tests.library.cycle.runner`` imports s3gc once and then forks a child for each request: one JSON line in
(`Order`), one JSON line out (`Report`). A child is a process like any other: it is killed by a real SIGKILL, by a
timer from outside or at a point that `killpoints` counts from inside, and nothing of its memory survives. Forking
costs a tenth of starting Python anew, which is what lets hundreds of kills fit into minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Order", "Report", "Runner", "start_runner"]

ROOT = Path(__file__).parents[3]


@dataclass
class Order:
    """What a child is to do. `config` are the keywords of `create_config`; `restore` the operation to restore instead
    of running a cycle. Killed after `kill_after` seconds, or at the `kill_nth` step whose kind `kill_kind` matches ("": any)."""

    config: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    restore: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    kill_after: float | None = None
    kill_kind: str | None = None
    kill_nth: int = 1
    kill_is_after: bool = False


@dataclass
class Report:
    """How it ended. `result` is that of the cycle or restore, None when it was killed or raised `error`.

    `killed_at` is the kind of step at which it died, "" after a timer; `kinds` are all steps of one that ended.
    """

    killed: bool
    seconds: float
    result: dict[str, Any] | None = None
    error: str = ""
    message: str = ""
    killed_at: str = ""
    kinds: list[str] = field(default_factory=list)
    log: str = ""


class Runner:
    """The parent's side. Not for use by two threads at once."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.library.cycle.runner"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, order: Order) -> Report:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the runner ended ({self._process.wait()})")
        return Report(**json.loads(line))

    async def start(self, order: Order) -> Report:
        """As `run`, beside whatever else the test does meanwhile."""
        return await asyncio.to_thread(self.run, order)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@contextlib.contextmanager
def start_runner() -> Iterator[Runner]:
    runner = Runner()
    try:
        yield runner
    finally:
        runner.close()


# --- the runner's own process


async def _do(order: Order) -> dict[str, Any]:
    import aiosqlite

    from s3gc import create_config, initialize_gc_state, run_gc_cycle, shutdown_gc_state
    from s3gc.backup.restore import restore_operation

    config = create_config(**order.config)
    state = await initialize_gc_state(config)
    try:
        if order.restore is None:
            return (await run_gc_cycle(config, state, **order.options)).model_dump(mode="json")
        async with aiosqlite.connect(state["vault_db_path"]) as vault_db:
            result = await restore_operation(config, state, vault_db, order.restore, **order.options)
        return result.model_dump(mode="json")
    finally:
        await shutdown_gc_state(state)


def _child(order: Order, out: Path) -> None:
    """Never returns: ends the process, whatever happens."""
    from tests.library.cycle.killpoints import Recorder, install

    report = Report(killed=False, seconds=0)
    began = time.monotonic()
    status = 1
    try:
        os.environ.update(order.environment)
        recorder = Recorder(
            wanted=order.kill_kind, nth=order.kill_nth, after=order.kill_is_after,
            tell=lambda kind: (out / "killed").write_text(kind),
        )  # fmt: skip
        install(recorder, order.config["bucket"])
        try:
            report.result = asyncio.run(_do(order))
        except Exception as error:
            report.error, report.message = type(error).__name__, str(error)
        report.seconds, report.kinds = time.monotonic() - began, recorder.kinds
        (out / "report.part").write_text(json.dumps(asdict(report)))
        (out / "report.part").rename(out / "report")
        status = 0
    finally:
        os._exit(status)


def _run(order: Order) -> Report:
    with tempfile.TemporaryDirectory(prefix="s3gc-child-") as folder:
        out = Path(folder)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            log = os.open(out / "log", os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            _child(order, out)
        descriptor = os.pidfd_open(pid)
        try:
            select.select([descriptor], [], [], order.kill_after)  # None: until it ends by itself
            with contextlib.suppress(ProcessLookupError):
                if order.kill_after is not None:
                    os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        finally:
            os.close(descriptor)
        log_text = (out / "log").read_text(errors="replace")[-4000:] if (out / "log").exists() else ""
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            at = (out / "killed").read_text() if (out / "killed").exists() else ""
            return Report(killed=True, seconds=time.monotonic() - began, killed_at=at, log=log_text)
        if not (out / "report").exists():
            raise RuntimeError(f"a child ended with {status} and no report: {log_text}")
        return Report(**{**json.loads((out / "report").read_text()), "log": log_text})


def _serve() -> None:
    # Imported before the first fork, so that no child pays for it; none of these starts a thread of its own.
    import tests.library.cycle.killpoints  # noqa: F401

    import s3gc.backup.restore
    import s3gc.cycle
    import s3gc.references.sources.mysql
    import s3gc.references.sources.postgres
    import s3gc.references.sources.sqlite
    import s3gc.store.s3storage  # noqa: F401

    replies = os.fdopen(os.dup(1), "w")  # a child's prints must not get among the replies
    os.dup2(2, 1)
    for line in sys.stdin:
        replies.write(json.dumps(asdict(_run(Order(**json.loads(line))))) + "\n")
        replies.flush()


if __name__ == "__main__":
    _serve()
