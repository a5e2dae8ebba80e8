"""What Argo CD (Lua) and Flux (kstatus) make of each state that the operator reports: one table for both."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import lupa.lua51
import pytest
import yaml

from tests.chart.rendering import ROOT
from tests.testbed import tools

ARGOCD = ROOT / "examples" / "gitops" / "argocd"

Object = dict[str, Any]


def _bucketgc(*conditions: tuple[str, str, str], observed: int | None = 2, suspend: bool = False) -> Object:
    return _object("BucketGC", conditions, observed, {"suspend": suspend})


def _gcrestore(*conditions: tuple[str, str, str], observed: int | None = 1) -> Object:
    return _object("GCRestore", conditions, observed, {}, 1)


def _object(
    kind: str,
    conditions: tuple[tuple[str, str, str], ...],
    observed: int | None,
    spec: Object,
    generation: int = 2,
) -> Object:
    found: Object = {
        "apiVersion": "s3gc.dev/v1",
        "kind": kind,
        "metadata": {"name": "media", "namespace": "shop", "generation": generation},
        "spec": spec,
    }
    if observed is not None:
        listed = [
            {"type": name, "status": status, "reason": "Because", "message": message}
            for name, status, message in conditions
        ]
        found["status"] = {"observedGeneration": observed, "conditions": listed}
    return found


READY = ("Ready", "True", "next cycle at 02:30")
FAILED = ("LastCycleSucceeded", "False", "the database does not answer")

#: what -> the object, Argo CD's health, a part of its message, kstatus
STATES: dict[str, tuple[Object, str, str, str]] = {
    "nobody looked yet": (_bucketgc(observed=None), "Progressing", "operator", "Current"),
    "an older generation was looked at": (
        _bucketgc(READY, observed=1),
        "Progressing",
        "operator",
        "InProgress",
    ),
    "not reconciled yet": (
        _bucketgc(("Ready", "False", "wait"), ("Reconciling", "True", "wait")),
        "Progressing",
        "operator",
        "InProgress",
    ),
    "ready": (_bucketgc(READY, ("LastCycleSucceeded", "True", "")), "Healthy", "02:30", "Current"),
    "ready, no cycle yet": (
        _bucketgc(READY, ("LastCycleSucceeded", "Unknown", "no cycle has ended yet")),
        "Healthy",
        "no cycle has ended",
        "Current",
    ),
    "its last cycle failed": (_bucketgc(READY, FAILED), "Healthy", "the database does not answer", "Current"),
    "a cycle runs": (_bucketgc(READY, ("CycleRunning", "True", "Listing")), "Healthy", "", "Current"),
    "suspended": (_bucketgc(READY, suspend=True), "Healthy", "Suspended", "Current"),
    "its spec cannot be used": (
        _bucketgc(("Ready", "False", "bad"), ("Stalled", "True", "spec.schedule: no such day")),
        "Degraded",
        "spec.schedule",
        "Failed",
    ),
    "a restore that nobody looked at": (_gcrestore(observed=None), "Progressing", "operator", "Current"),
    "a restore that runs": (
        _gcrestore(("Succeeded", "Unknown", ""), ("Ready", "False", "restoring")),
        "Progressing",
        "restoring",
        "InProgress",
    ),
    "a restore that is done": (
        _gcrestore(("Succeeded", "True", "12 restored"), ("Ready", "True", "12 restored")),
        "Healthy",
        "12 restored",
        "Current",
    ),
    "a restore that failed": (
        _gcrestore(("Succeeded", "False", "no such operation"), ("Stalled", "True", "no such operation")),
        "Degraded",
        "no such operation",
        "Failed",
    ),
}


def _lua(script: str, found: Object) -> Any:
    """Run a script as Argo CD does: Lua 5.1, the object in the global `obj`, lists from 1, what it returns."""
    lua = lupa.lua51.LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(found, recursive=True)
    return _plain(lua.execute(script))


def _plain(value: Any) -> Any:
    if lupa.lua51.lua_type(value) != "table":
        return value
    return {key: _plain(each) for key, each in value.items()}


@pytest.mark.parametrize("state", STATES)
def test_argocd_judges_each_state(state: str) -> None:
    found, health, message, _ = STATES[state]
    said = _lua((ARGOCD / "health" / f"{found['kind']}.lua").read_text(), found)
    assert said["status"] == health
    assert message in said.get("message", "")


def test_kstatus_judges_each_state() -> None:
    done = subprocess.run(
        [str(tools.binary("kstatus"))],
        input=json.dumps([found for found, *_ in STATES.values()]),
        capture_output=True,
        text=True,
        check=True,
    )
    said = [line.partition("\t")[0] for line in done.stdout.splitlines()]
    assert dict(zip(STATES, said, strict=True)) == {state: row[3] for state, row in STATES.items()}


def _action(name: str, found: Object) -> Any:
    return _lua((ARGOCD / "actions" / f"BucketGC.{name}.lua").read_text(), found)


def test_argocds_actions_touch_annotations_alone() -> None:
    found = _bucketgc(READY)
    ran = _action("run", found)
    token = ran["metadata"]["annotations"].pop("s3gc.dev/run-requested-at")
    assert token.endswith("Z")
    assert ran["spec"] == found["spec"]
    found["status"]["pendingApproval"] = {"planDigest": "abc"}
    found["metadata"]["annotations"] = {"kept": "yes"}
    approved = _action("approve", found)
    assert approved["metadata"]["annotations"] == {"kept": "yes", "s3gc.dev/approve": "abc"}
    assert approved["spec"] == found["spec"]


def test_argocd_offers_what_can_be_done() -> None:
    found = _bucketgc(READY)
    assert _action("discovery", found) == {"run": {"disabled": False}, "approve": {"disabled": True}}
    found["status"]["active"] = {"jobName": "media-1"}
    found["status"]["pendingApproval"] = {"planDigest": "abc"}
    assert _action("discovery", found) == {"run": {"disabled": True}, "approve": {"disabled": False}}


def test_argocds_settings_hold_these_scripts() -> None:
    data = yaml.safe_load((ARGOCD / "argocd-cm.yaml").read_text())["data"]
    for kind in ("BucketGC", "GCRestore"):
        held = data[f"resource.customizations.health.s3gc.dev_{kind}"]
        assert held == (ARGOCD / "health" / f"{kind}.lua").read_text()
    actions = yaml.safe_load(data["resource.customizations.actions.s3gc.dev_BucketGC"])
    assert {each["name"] for each in actions["definitions"]} == {"run", "approve"}
    assert "actions[" in actions["discovery.lua"]
