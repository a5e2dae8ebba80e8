"""The plugin's endpoints on a real server process, with real stores and databases behind it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.library.integrations.conftest import Shop
from tests.library.integrations.serving import BASE, Served
from tests.testbed.services import make_bucket


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    return make_shop()


def test_a_story_from_the_dry_run_to_the_restore(
    shop: Shop, serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(shop, shop.policy(tmp_path / "vault", mode="execute", approval="manual"))

    # at first there is nothing
    assert served.get(f"{BASE}/operations").json == {"items": [], "next_before": None}
    assert served.get(f"{BASE}/metrics").json["total_runs"] == 0

    # a cycle in the background waits for a person
    accepted = served.post(f"{BASE}/run")
    assert accepted.status == 202, accepted.body
    plan_id = accepted.json["operation_id"]
    assert accepted.headers["location"] == accepted.json["href"] == f"{BASE}/operations/{plan_id}"
    served.until(served.idle, "the cycle has ended")
    detail = served.get(accepted.json["href"]).json
    assert detail["operation"]["outcome"] == "AwaitingApproval"
    assert (detail["approvable"], detail["restorable"]) == (True, False)
    status = served.get(f"{BASE}/status").json
    assert status["last_ended"]["outcome"] == "AwaitingApproval"
    assert status["pending_approval"]["operation_id"] == plan_id
    assert status["pending_approval"]["objects"] == 4
    digest = status["pending_approval"]["plan_digest"]

    # its plan, page by page
    first = served.get(f"{BASE}/operations/{plan_id}/plan?limit=3").json
    assert [item["key"] for item in first["items"]] == list(shop.orphans[:3])
    assert (first["objects"], first["plan_digest"]) == (4, digest)
    assert "no reference named it" in first["items"][0]["reason"]
    rest = served.get(f"{BASE}/operations/{plan_id}/plan?limit=3&after={quote(first['next_after'])}").json
    assert [item["key"] for item in rest["items"]] == list(shop.orphans[3:])
    assert rest["next_after"] is None
    assert (
        served.get(f"{BASE}/operations/{plan_id}/plan?prefix=left/0002").json["items"][0]["key"]
        == shop.orphans[2]
    )
    assert served.get(f"{BASE}/operations/{plan_id}/plan?prefix=avatars/").json["items"] == []

    # approve exactly this one
    other = served.post(f"{BASE}/operations/{plan_id}/approve", body={"plan_digest": "0" * 64})
    assert (other.status, other.json["plan_digest"]) == (409, digest)
    approved = served.post(f"{BASE}/operations/{plan_id}/approve", body={"plan_digest": digest, "by": "Ada"})
    assert approved.status == 200, approved.body
    assert approved.json["by"].startswith("Ada, over HTTP from 127.0.0.1")
    assert served.get(f"{BASE}/status").json["pending_approval"] is None

    # and the next cycle sweeps it
    done = served.run()
    assert (done["operation_id"], done["outcome"], done["deleted_count"]) == (plan_id, "Succeeded", 4), done
    assert shop.keys() == set(shop.referenced)
    swept = served.get(f"{BASE}/operations/{plan_id}/plan").json
    assert {item["action"] for item in swept["items"]} == {"deleted"}
    detail = served.get(f"{BASE}/operations/{plan_id}").json
    assert (detail["approvable"], detail["restorable"]) == (False, True)

    # why
    gone = served.get(f"{BASE}/explain?key={quote(shop.orphans[0])}").json
    assert (gone["exists"], gone["history"][0]["operation_id"]) == (False, plan_id)
    kept = served.get(f"{BASE}/explain?key=avatars/1.jpg").json
    assert kept["references"][0]["column"].endswith("users.avatar_url")
    assert served.get(f"{BASE}/explain?key=posts/1.png").json["references"][0]["source"] == "posts"

    # charts, page, numbers
    charts = served.get(f"{BASE}/operations/{plan_id}/summary").json
    assert (charts["source"], charts["objects"]) == ("manifest", 4)
    page = served.get(f"{BASE}/operations/{plan_id}/report")
    assert b"<b>&.bin" not in page.body
    assert "sandbox" in page.headers["content-security-policy"]
    metrics = served.get(f"{BASE}/metrics").json
    assert (metrics["total_runs"], metrics["total_deleted"]) == (1, 4)
    text = served.get(f"{BASE}/metrics", headers={"Accept": "text/plain;version=0.0.4;q=0.3,*/*;q=0.1"})
    assert text.headers["content-type"].startswith("text/plain")
    assert (
        f's3gc_vault_objects_deleted{{bucket="{shop.bucket}",policy="{shop.bucket}"}} 4.0'
        in text.body.decode()
    )
    assert served.get(f"{BASE}/metrics?format=prometheus").body.startswith(b"# HELP")

    # bring back one, then all
    would = served.post(f"{BASE}/restore/{plan_id}").json
    assert (would["dry_run"], would["restored_count"]) == (True, 4)
    assert shop.keys() == set(shop.referenced)
    one = served.post(f"{BASE}/restore/{plan_id}", body={"dry_run": False, "keys": [shop.orphans[0]]})
    assert (one.status, one.json["restored_count"]) == (200, 1), one.body
    assert shop.keys() == {*shop.referenced, shop.orphans[0]}
    begun = served.post(f"{BASE}/restore/{plan_id}?dry_run=false&wait=false")
    assert begun.status == 202, begun.body
    served.until(served.idle, "the restore has ended")
    last = served.get(f"{BASE}/status").json["last_ended"]
    assert (last["kind"], last["restore"]["restored_count"], last["restore"]["skipped_count"]) == (
        "restore",
        3,
        1,
    )
    assert shop.keys() == {*shop.referenced, *shop.orphans}


def test_events_tell_a_cycle_from_its_start_to_its_end(
    shop: Shop, serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(shop, shop.policy(tmp_path / "vault"))
    with served.events() as events:
        assert next(events)[1]["running"] is None
        assert next(events) == ("progress", {"running": None})
        operation_id = served.post(f"{BASE}/run").json["operation_id"]
        told = []
        for name, data in events:
            told.append((name, data))
            if name == "ended":
                break
        ended = told[-1][1]
        assert (ended["operation_id"], ended["outcome"], ended["problem"]) == (
            operation_id,
            "Succeeded",
            None,
        )
        assert {data["running"]["operation_id"] for name, data in told if name == "progress"} <= {
            operation_id
        }
        assert next(events)[1]["last_cycle"]["operation_id"] == operation_id
        assert next(events) == ("progress", {"running": None})


def test_a_vault_in_the_store_serves_as_well(
    shop: Shop, serve: Callable[..., Served], tmp_path: Path
) -> None:
    vault = make_bucket(shop.s3)
    served = serve(
        shop, shop.policy(tmp_path, vault_path=f"s3://{vault}/media", vault_endpoint_url=shop.s3.endpoint)
    )
    done = served.run()
    operation_id = done["operation_id"]
    for _ in range(2):  # fetched, and from what was fetched
        page = served.get(f"{BASE}/operations/{operation_id}/plan").json
        assert [item["key"] for item in page["items"]] == list(shop.orphans)
    assert served.get(f"{BASE}/operations/{operation_id}/summary").json["source"] == "plan"
    assert served.get(f"{BASE}/status").json["vault"] == f"s3://{vault}/media"
    assert served.get(f"{BASE}/health").json["vault"]["state"] == "ok"
    served.terminate()
