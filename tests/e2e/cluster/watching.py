"""What a test of a fault waits for and looks at: a cycle's Job, its pods, its end, and that nothing referenced is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.e2e.cluster.shop import Manifest, Shop

#: A sweep of some seconds: each group is one object, each request takes its turn.
SLOW = {"requestsPerSecond": 12, "canaryObjects": 1, "groupObjects": 1}


def referenced(shop: Shop) -> list[str]:
    return sorted(shop.bodies)[:20]


def eventually(shop: Shop, what: str, look: Callable[[], Any], seconds: float = 120) -> Any:
    return shop.cluster.eventually(f"{shop.name}: {what}", look, seconds)


def status(shop: Shop) -> Manifest:
    found: Manifest = shop.object().get("status", {})
    return found


def condition(shop: Shop, kind: str) -> tuple[str, str]:
    (found,) = (each for each in status(shop)["conditions"] if each["type"] == kind)
    return found["status"], found["reason"]


def job_of(shop: Shop) -> str:
    name: str = eventually(shop, "a Job", lambda: status(shop).get("active", {}).get("jobName"))
    return name


def pods_of(shop: Shop, job: str) -> list[Manifest]:
    found = shop.object("pods", f"--selector=batch.kubernetes.io/job-name={job}")
    items: list[Manifest] = found["items"]
    return sorted(items, key=lambda pod: pod["metadata"]["creationTimestamp"])


def sweeping(shop: Shop) -> tuple[str, str]:
    """Wait until the policy's cycle deletes; the names of its Job and its pod."""
    job = job_of(shop)

    def deleting() -> bool:
        return len(shop.present()) < len(shop.bodies)

    eventually(shop, "the sweep", deleting)
    return job, pods_of(shop, job)[-1]["metadata"]["name"]


def kept_what_is_referenced(shop: Shop) -> None:
    present = shop.present()
    assert {key: present.get(key) for key in referenced(shop)} == {
        key: shop.bodies[key] for key in referenced(shop)
    }


def finished(shop: Shop, **expected: Any) -> Manifest:
    """The cycle has ended, with this in its result."""
    found: Manifest = eventually(
        shop, "its end", lambda: None if status(shop).get("active") else status(shop).get("lastCycle"), 240
    )
    assert {name: found.get(name) for name in expected} == expected, found
    return found


def processes_of(pod: Manifest) -> Iterator[int]:
    """The processes of a pod on this machine, the one that only holds its sandbox apart."""
    uid = pod["metadata"]["uid"]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group = (folder / "cgroup").read_text()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if uid in group.replace("_", "-") and b"s3gc" in command:
            yield int(folder.name)
