"""The scope's lock, with real processes: one holder at a time, the dead are taken over, the lost are told."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.library.vault.processes import QUICK, open_vault, scope_named

from s3gc.exceptions import LockedError, VaultError
from s3gc.vault.holder import Holder, this_process
from s3gc.vault.lock import clear_stop, hold_scope, request_stop, stop_requested
from s3gc.vault.vault import Vault

ROOT = Path(__file__).parents[3]
SCOPE = scope_named("media")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
async def vault(tmp_path: Path) -> Vault:
    return await open_vault(str(tmp_path / "vault"))


@pytest.fixture
def start(vault: Vault) -> Iterator[Start]:
    """Start a program of `processes` on this vault; killed, by its own id, when the test ends."""
    running: list[subprocess.Popen[str]] = []

    def run(what: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.library.vault.processes", what, vault.location, "media"]
        environment = {"PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", "PATH": "/usr/bin:/bin"}
        process = subprocess.Popen(
            [*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _lock_file(vault: Vault) -> Path:
    return Path(vault.location) / "scopes/media/lock.json"


def _edit_lock(vault: Vault, **changes: Any) -> None:
    value = json.loads(_lock_file(vault).read_text())
    value.update(changes)
    _lock_file(vault).write_text(json.dumps(value))


async def test_a_second_process_is_refused_and_told_who_holds_it(vault: Vault, start: Start) -> None:
    process = start("hold", 30)
    assert await asyncio.to_thread(_line, process) == "held"
    with pytest.raises(LockedError, match=f"process {process.pid} ") as caught:
        async with hold_scope(vault, SCOPE, times=QUICK):
            pass
    assert "cycle" in str(caught.value.details["holder"])


async def test_a_released_lock_is_free_at_once(vault: Vault) -> None:
    for _ in range(3):
        async with hold_scope(vault, SCOPE) as lock:
            await lock.check()


async def test_many_processes_are_never_inside_together(vault: Vault, start: Start, tmp_path: Path) -> None:
    processes = [start("race", 8) for _ in range(5)]
    for process in processes:
        assert await asyncio.to_thread(process.wait, 120) == 0
    lines = (tmp_path / "inside").read_text().split()
    assert len(lines) == 2 * 5 * 8
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert (entered[0], left[0], entered[1:]) == ("+", "-", left[1:])


async def test_of_parallel_takers_of_a_dead_lock_exactly_one_wins(vault: Vault, start: Start) -> None:
    process = start("hold", 60)
    await asyncio.to_thread(_line, process)
    process.kill()
    process.wait()
    inside = 0
    most = 0

    async def take() -> None:
        nonlocal inside, most
        async with hold_scope(vault, SCOPE, wait_seconds=10, times=QUICK) as lock:
            inside += 1
            most = max(most, inside)
            await lock.check()
            await asyncio.sleep(0.05)
            inside -= 1

    await asyncio.gather(*(take() for _ in range(6)))
    assert most == 1


async def test_a_killed_local_holder_is_taken_over_at_once(vault: Vault, start: Start) -> None:
    process = start("hold", 60)
    await asyncio.to_thread(_line, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    began = time.monotonic()
    async with hold_scope(vault, SCOPE) as lock:  # a lease of a minute, and no waiting
        await lock.check()
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"boot_id": "another boot"}, id="another machine"),
        pytest.param({"pid_namespace": "pid:[1]"}, id="another container with the same process id"),
    ],
)
async def test_a_holder_elsewhere_is_not_judged_by_our_process_table(
    vault: Vault, other: dict[str, str]
) -> None:
    async with hold_scope(vault, SCOPE, times=QUICK):
        holder = {**this_process().to_json(), "started": "1", **other}
        _edit_lock(vault, holder=holder)
        with pytest.raises(LockedError):
            async with hold_scope(vault, SCOPE, times=QUICK):
                pass


async def test_a_lease_is_taken_over_after_it_was_watched_unchanged_for_its_whole_time(vault: Vault) -> None:
    async with hold_scope(vault, SCOPE, times=QUICK):
        pass
    old = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    elsewhere = {**this_process().to_json(), "boot_id": "another boot"}
    _edit_lock(vault, released=False, holder=elsewhere, renewed_at=old)
    began = time.monotonic()
    async with hold_scope(vault, SCOPE, times=QUICK):
        waited = time.monotonic() - began
    assert QUICK.lease <= waited < QUICK.lease + 2


@pytest.mark.parametrize("hours", [-5, 5])
async def test_a_live_holder_with_a_wrong_clock_keeps_its_lock(vault: Vault, hours: int) -> None:
    """Its renewals are seen, whatever time it writes into them."""
    async with hold_scope(vault, SCOPE, times=QUICK):
        pass
    stop = asyncio.Event()

    async def renewed_elsewhere() -> None:
        count = 0
        while not stop.is_set():
            count += 1
            wrong = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
            elsewhere = {**this_process().to_json(), "boot_id": "another boot"}
            _edit_lock(vault, released=False, holder=elsewhere, renewed_at=wrong, renewals=count)
            await asyncio.sleep(0.5)

    renewing = asyncio.create_task(renewed_elsewhere())
    await asyncio.sleep(0.05)
    try:
        with pytest.raises(LockedError):
            async with hold_scope(vault, SCOPE, wait_seconds=2 * QUICK.lease, times=QUICK):
                pass
    finally:
        stop.set()
        await renewing


async def test_the_lease_is_renewed_while_the_block_runs(vault: Vault, start: Start) -> None:
    process = start("hold", 3 * QUICK.lease)
    assert await asyncio.to_thread(_line, process) == "held"
    with pytest.raises(LockedError):
        async with hold_scope(vault, SCOPE, wait_seconds=2 * QUICK.lease, times=QUICK):
            pass
    assert await asyncio.to_thread(_line, process) == "released"


async def test_a_stopped_holder_learns_that_it_lost_the_lock(vault: Vault) -> None:
    """SIGSTOP, a long GC pause, a suspended machine: the renewal comes too late, and check says so."""
    async with hold_scope(vault, SCOPE, times=QUICK) as lock:
        await lock.check()
        time.sleep(QUICK.lease)  # the whole process stands still, the renewing task included
        with pytest.raises(LockedError, match="in time"):
            await lock.check()


async def test_a_lock_that_was_taken_over_is_lost_at_check_and_not_released_by_its_old_holder(
    vault: Vault,
) -> None:
    async with hold_scope(vault, SCOPE, times=QUICK) as lock:
        _edit_lock(vault, token="somebody else")
        theirs = _lock_file(vault).read_bytes()
        with pytest.raises(LockedError, match="took it over"):
            await lock.check()
        await asyncio.sleep(2 * QUICK.renew)
    assert _lock_file(vault).read_bytes() == theirs


async def test_a_storage_that_fails_for_a_moment_does_not_cost_the_lock(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(vault.storage).replace
    failures = 2

    async def failing(self: Any, path: str, data: bytes, *, expected: bytes) -> bool:
        nonlocal failures
        if failures:
            failures -= 1
            raise VaultError("a moment")
        return bool(await real(self, path, data, expected=expected))

    async with hold_scope(vault, SCOPE, times=QUICK) as lock:
        monkeypatch.setattr(type(vault.storage), "replace", failing)
        await asyncio.sleep(4 * QUICK.renew)
        assert failures == 0
        await lock.check()


async def test_a_renewal_whose_answer_was_lost_is_recognised_as_our_own(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(vault.storage).replace

    async def lost_answer(self: Any, path: str, data: bytes, *, expected: bytes) -> bool:
        await real(self, path, data, expected=expected)
        return False

    async with hold_scope(vault, SCOPE, times=QUICK) as lock:
        monkeypatch.setattr(type(vault.storage), "replace", lost_answer)
        await asyncio.sleep(2.5 * QUICK.renew)
        await lock.check()


async def test_a_renewal_that_was_written_and_then_failed_does_not_cost_the_lock(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(vault.storage).replace
    written = asyncio.Event()

    async def failing(self: Any, path: str, data: bytes, *, expected: bytes) -> bool:
        await real(self, path, data, expected=expected)
        written.set()
        raise VaultError("the connection broke")

    async with hold_scope(vault, SCOPE, times=QUICK) as lock:
        with monkeypatch.context() as patch:
            patch.setattr(type(vault.storage), "replace", failing)
            await written.wait()
        await lock.check()


async def test_a_renewal_that_is_on_its_way_when_the_block_ends_leaves_the_lock_free(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = type(vault.storage).replace
    written = asyncio.Event()

    async def written_and_silent(self: Any, path: str, data: bytes, *, expected: bytes) -> bool:
        won = bool(await real(self, path, data, expected=expected))
        if not json.loads(data)["released"]:
            written.set()
            await asyncio.Event().wait()
        return won

    with monkeypatch.context() as patch:
        patch.setattr(type(vault.storage), "replace", written_and_silent)
        async with hold_scope(vault, SCOPE, times=QUICK):
            await written.wait()
    async with hold_scope(vault, SCOPE):  # the next cycle, of the same process or another
        pass


async def test_an_unreadable_lock_is_held_until_it_was_watched_for_a_lease(vault: Vault) -> None:
    _lock_file(vault).parent.mkdir(parents=True)
    _lock_file(vault).write_bytes(b"\xff not json")
    began = time.monotonic()
    async with hold_scope(vault, SCOPE, times=QUICK):
        assert time.monotonic() - began >= QUICK.lease


async def test_no_cycle_starts_while_a_restore_waits(vault: Vault) -> None:
    async with hold_scope(vault, SCOPE, "cycle", times=QUICK):
        waiting = asyncio.create_task(_restore(vault))
        while await stop_requested(vault, SCOPE) is None:
            await asyncio.sleep(0.02)
    with pytest.raises(LockedError):
        async with hold_scope(vault, SCOPE, "cycle", times=QUICK):
            pass
    await waiting
    async with hold_scope(vault, SCOPE, "cycle", times=QUICK):
        pass


async def _restore(vault: Vault) -> None:
    async with hold_scope(vault, SCOPE, "restore", 20, times=QUICK):
        await asyncio.sleep(0.3)


async def test_a_stop_request_is_seen_cleared_and_lapses(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    await request_stop(vault, SCOPE, "on call")
    request = await stop_requested(vault, SCOPE)
    assert request is not None
    assert request.by == "on call"
    await clear_stop(vault, SCOPE)
    assert await stop_requested(vault, SCOPE) is None
    await request_stop(vault, SCOPE, "on call")
    file = Path(vault.location) / "scopes/media/stop.json"
    value = json.loads(file.read_text())
    file.write_text(
        json.dumps({**value, "requested_at": (datetime.now(UTC) - timedelta(hours=1)).isoformat()})
    )
    assert await stop_requested(vault, SCOPE) is None
    dead = Holder(**{**this_process().to_json(), "pid": 2**22 - 1})  # type: ignore[arg-type]  # the same fields
    file.write_text(json.dumps({**value, "holder": dead.to_json()}))
    assert await stop_requested(vault, SCOPE) is None


def test_a_process_is_recognised_by_more_than_its_id() -> None:
    me = this_process()
    assert me.state() == "alive"
    assert Holder(me.host, me.pid, me.boot_id, me.pid_namespace, "1").state() == "dead"  # its id was reused
    assert Holder(me.host, me.pid, "", "", "").state() == "unknown"
