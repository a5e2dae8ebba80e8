"""A thousand policies: how long until each is looked at, what the operator needs, what it asks of the API server.

The bounds are far from what is measured (docs/performance.md); they fail when something grows that should not.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.controller.conftest import Hands, Operator, eventually, policy
from tests.testbed.kubernetes import Kubernetes

POLICIES = 1000


def requests_of(plane: Kubernetes) -> float:
    """Requests for our kinds that the API server has answered, watches apart."""
    text = plane.kubectl("get", "--raw", "/metrics")
    found = re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)$", text, re.MULTILINE)
    return sum(
        float(count)
        for labels, count in found
        if 'verb="WATCH"' not in labels and ('group="s3gc.dev"' in labels or 'resource="jobs"' in labels)
    )


def memory_mib(operator: Operator) -> float:
    assert operator.process is not None
    status = Path(f"/proc/{operator.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def cpu_seconds(operator: Operator) -> float:
    assert operator.process is not None
    fields = Path(f"/proc/{operator.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_a_thousand_policies(
    plane: Kubernetes, own_namespace: Hands, make_operator: Callable[..., Operator]
) -> None:
    hands = own_namespace
    with ThreadPoolExecutor(8) as pool:
        wanted = [policy(schedule="0 0 1 1 *") for _ in range(POLICIES)]
        [*pool.map(lambda gc: hands.create("bucketgcs", gc.name, gc.spec), wanted)]
    operator = make_operator(hands.namespace, options=("--resync-seconds", "5"))
    before, began = requests_of(plane), time.monotonic()
    operator.start().until_ready()
    ready = time.monotonic() - began

    def seen() -> bool:
        _, text = operator.get("/metrics")
        return text.count("\ns3gc_next_run_timestamp_seconds{") == POLICIES

    eventually("every policy is looked at", seen, 240)
    seconds, asked = time.monotonic() - began, requests_of(plane) - before
    assert operator.get("/healthz") == (200, "ok")
    time.sleep(1)
    quiet, then, used = requests_of(plane), time.monotonic(), cpu_seconds(operator)
    time.sleep(12)  # two resyncs, each of which looks at everything again
    resyncs = (requests_of(plane) - quiet) / ((time.monotonic() - then) / 5)
    memory = memory_mib(operator)
    print(
        f"\n{POLICIES} policies: ready after {ready:.1f} s, all looked at after {seconds:.1f} s, "
        f"{asked / POLICIES:.2f} requests each, {asked / seconds:.0f} a second; {memory:.0f} MiB; "
        f"a resync asks {resyncs:.0f} requests ({resyncs / 5:.1f} a second with one each 5 s) and takes "
        f"{(cpu_seconds(operator) - used) / 2.4:.2f} s of CPU"
    )
    assert seconds < 200
    assert asked < 1.2 * POLICIES, "one status each, and the lists"
    assert memory < 250
    assert resyncs < 30, "a resync lists; it asks nothing of what did not change"
    # One among many is still served at once.
    hands.request(wanted[500].name)
    began = time.monotonic()
    hands.job(wanted[500].name)
    assert time.monotonic() - began < 20
    operator.stop()
