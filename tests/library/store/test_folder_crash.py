"""A folder holds whole files only: killed at any moment, shared by processes, full, or not ours to write."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from s3gc.exceptions import VaultError
from s3gc.store.folder import FolderStorage

_WRITER = """
import asyncio, hashlib, os, sys, itertools
from pathlib import Path
from s3gc.store.folder import FolderStorage

def content(seed):
    body = hashlib.sha256(str(seed).encode()).digest() * 20000
    return hashlib.sha256(body).hexdigest().encode() + body

async def main(root, who):
    storage = await FolderStorage.open(Path(root))
    big = Path(root).parent / f"source-{who}"
    big.write_bytes(content(who))
    print("ready", flush=True)
    for number in itertools.count():
        await storage.write("a/replaced", content((who, number)))
        await storage.create(f"new/{who}/{number % 40}", content((who, number, "c")))
        await storage.write_file("a/big", big)
        await storage.delete(f"new/{who}/{(number + 7) % 40}")

asyncio.run(main(*sys.argv[1:]))
"""


def is_whole(data: bytes) -> bool:
    return data[:64] == hashlib.sha256(data[64:]).hexdigest().encode()


def _start(code: str, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


async def test_writers_killed_at_any_moment_leave_only_whole_files_and_no_lock(tmp_path: Path) -> None:
    root = tmp_path / "vault"
    draw = random.Random(5)
    for round_number in range(6):
        processes = [_start(_WRITER, str(root), str(who)) for who in range(2)]
        await asyncio.sleep(draw.uniform(0.05, 0.4))
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=10)
            assert process.stdout is not None
            process.stdout.close()
        started = time.monotonic()
        storage = await FolderStorage.open(root)
        files = [file async for file in storage.list()]
        assert files, f"round {round_number} wrote nothing"
        for file in files:
            assert is_whole(await storage.read(file.path)), file.path
            assert not file.path.startswith(".tmp")
        await storage.write("after", b"x")  # the lock of a killed process is free at once
        await storage.delete("after")
        assert time.monotonic() - started < 20


async def test_left_over_temporary_files_go_after_a_day_and_never_those_in_use(tmp_path: Path) -> None:
    storage = await FolderStorage.open(tmp_path)
    old, new = tmp_path / ".tmp" / "1-old.part", tmp_path / ".tmp" / "2-new.part"
    for file in (old, new):
        file.write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    await FolderStorage.open(tmp_path)
    assert (old.exists(), new.exists()) == (False, True)
    assert [file async for file in storage.list()] == []


_COUNTER = """
import asyncio, sys
from pathlib import Path
from s3gc.store.folder import FolderStorage

async def main(root, times):
    storage = await FolderStorage.open(Path(root))
    print("ready", flush=True)
    won = 0
    while won < int(times):
        before = await storage.read("counter")
        won += await storage.replace("counter", b"%d" % (int(before) + 1), expected=before)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_compare_and_swap_holds_between_processes(tmp_path: Path) -> None:
    storage = await FolderStorage.open(tmp_path)
    await storage.write("counter", b"0")
    processes = [_start(_COUNTER, str(tmp_path), "100") for _ in range(3)]
    for process in processes:
        assert await asyncio.to_thread(process.wait, 60) == 0
        assert process.stdout is not None
        process.stdout.close()
    assert await storage.read("counter") == b"300"


async def test_a_file_that_stopped_existing_is_not_brought_back_by_a_swap(tmp_path: Path) -> None:
    storage = await FolderStorage.open(tmp_path)
    for _ in range(50):
        await storage.write("lock", b"a")
        swapped, _ = await asyncio.gather(
            storage.replace("lock", b"b", expected=b"a"), storage.delete("lock")
        )
        exists = (tmp_path / "lock").exists()
        assert not exists or swapped  # a swap after the delete must fail, and then nothing is there
        assert not (exists and not swapped)
        await storage.delete("lock")


async def test_a_symbolic_link_never_leads_a_write_out_of_the_vault(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"x")
    storage = await FolderStorage.open(tmp_path / "vault")
    (tmp_path / "vault" / "link").symlink_to(outside)
    for call in (
        storage.write("link/precious", b"y"),
        storage.delete("link/precious"),
        storage.read("link/precious"),
    ):
        with pytest.raises(VaultError, match="leads out"):
            await call
    assert (outside / "precious").read_bytes() == b"x"
    assert [file.path async for file in storage.list()] == []


async def test_a_full_disk_is_said_and_leaves_the_old_file(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test mounts a small tmpfs and must run as root")
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True)
    try:
        storage = await FolderStorage.open(mount / "vault")
        await storage.write("state", b"old")
        big = tmp_path / "big"
        big.write_bytes(b"x" * 4_000_000)
        for call in (storage.write("state", b"y" * 4_000_000), storage.write_file("state", big)):
            with pytest.raises(VaultError, match="it is full: free space") as caught:
                await call
            assert caught.value.details["errno"] == errno.ENOSPC
        assert await storage.read("state") == b"old"
        await storage.write("state", b"new")  # the failed ones gave their space back
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        with pytest.raises(VaultError, match="read-only"):
            await storage.write("state", b"x")
        assert await storage.read("state") == b"new"
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


_POOR = """
import asyncio, os, sys
from pathlib import Path
from s3gc.store.folder import FolderStorage
from s3gc.exceptions import VaultError
import concurrent.futures.thread, encodings.idna  # all imports while we may still read them
os.setgid(65534); os.setuid(65534)
try:
    asyncio.run(FolderStorage.open(Path(sys.argv[1])))
except VaultError as error:
    print("ready" if "no permission: check the owner and mode" in str(error) else error)
"""


async def test_a_folder_that_is_not_ours_is_said(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.fail("this test changes to another user and must run as root")
    import tempfile

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        process = _start(_POOR, f"{folder}/vault")
        process.wait(timeout=20)
        assert process.stdout is not None
        process.stdout.close()


async def test_a_file_where_a_folder_should_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(VaultError, match="a file, not a folder"):
        await FolderStorage.open(tmp_path / "file")
    with pytest.raises(VaultError, match="a file, not a folder"):
        await FolderStorage.open(tmp_path / "file" / "vault")


async def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    storage = await FolderStorage.open(tmp_path)
    await storage.write("a/b", b"x" * 3_000_000)
    before = len(os.listdir("/proc/self/fd"))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for _ in range(50):
        async for _ in storage.stream("a/b"):
            break
        await storage.create("a/b", b"y")
        await storage.replace("a/b", b"z", expected=b"no")
        with pytest.raises(VaultError):
            await storage.read("a")
    import gc

    gc.collect()
    await asyncio.sleep(0.05)
    assert len(os.listdir("/proc/self/fd")) <= before
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)
