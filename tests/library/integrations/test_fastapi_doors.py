"""Who comes in, what an error looks like, and that the application stays as it was."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tests.library.integrations.conftest import Shop
from tests.library.integrations.serving import BASE, TOKEN, Answer, Served

OPERATION = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
ENDPOINTS = [
    ("POST", "/run"),
    ("GET", "/status"),
    ("GET", "/metrics"),
    ("GET", "/health"),
    ("GET", "/config"),
    ("GET", "/events"),
    ("GET", "/explain?key=a"),
    ("GET", "/operations"),
    ("GET", f"/operations/{OPERATION}"),
    ("GET", f"/operations/{OPERATION}/plan"),
    ("GET", f"/operations/{OPERATION}/summary"),
    ("GET", f"/operations/{OPERATION}/report"),
    ("POST", f"/operations/{OPERATION}/approve"),
    ("POST", f"/restore/{OPERATION}"),
    ("GET", "/nothing/of/the/kind"),
    ("DELETE", "/run"),
]


def problem(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    value: dict[str, Any] = answer.json
    assert (value["status"], value["type"]) == (status, f"urn:s3gc:{kind}")
    assert value["title"]
    assert value["detail"]
    return value


def test_without_a_token_on_the_server_nothing_is_open(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(make_shop(), {"bucket": "any-bucket", "vault_path": str(tmp_path / "vault")}, token=None)
    for method, path in [*ENDPOINTS, ("GET", "/"), ("GET", "/console/main.js")]:
        for token in (None, "", TOKEN):
            detail = problem(served.request(method, BASE + path, token=token), 503, "no-key")["detail"]
            assert "S3GC_ADMIN_API_KEY is not set" in detail
    # a person with a browser reads it as a page
    page = served.get(f"{BASE}/", token=None, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (page.status, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert "S3GC_ADMIN_API_KEY is not set" in page.body.decode()
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert served.get("/items/7", token=None).json == {"number": 7}


def test_tokens_errors_and_the_application_s_own(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    shop = make_shop()
    vault = tmp_path / "vault"
    served = serve(shop, shop.policy(vault, cdc_backend=None, schedule_cron="02:30"))

    # missing: 401, before anything is read
    for method, path in ENDPOINTS:
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer "}):
            answer = served.request(method, BASE + path, token=None, headers=headers, body=b"{broken")
            problem(answer, 401, "unauthenticated")
            assert answer.headers["www-authenticate"].startswith("Bearer")

    # problems for every error of ours
    assert problem(served.get(f"{BASE}/nothing"), 404, "not-found")
    assert served.request("DELETE", f"{BASE}/run").headers["allow"] == "POST"
    problem(served.request("DELETE", f"{BASE}/run"), 405, "method")
    problem(served.get(f"{BASE}/operations/{OPERATION}"), 404, "not-found")
    problem(served.post(f"{BASE}/restore/{OPERATION}"), 404, "not-found")
    problem(served.post(f"{BASE}/run?operation_id={OPERATION}"), 404, "not-found")
    assert "query.limit" in problem(served.get(f"{BASE}/operations?limit=0"), 422, "invalid")["errors"][0]
    problem(served.get(f"{BASE}/explain"), 422, "invalid")
    problem(served.post(f"{BASE}/restore/{OPERATION}", body=b"{broken"), 422, "invalid")
    assert problem(served.post(f"{BASE}/restore/{OPERATION}", body={"dry_run": 0}), 422, "invalid")
    assert problem(served.post(f"{BASE}/restore/{OPERATION}", body={"keys": []}), 422, "invalid")
    assert problem(served.post(f"{BASE}/run?mode=execute"), 409, "refused")["guard"] == "mode"

    # the application's are its own
    assert served.get("/items/404", token=None).json == {"detail": "Not Found"}
    assert served.get("/items/x", token=None).json["detail"][0]["type"] == "int_parsing"
    assert served.get("/nothing", token=None).headers["content-type"] == "application/json"
    assert served.get("/later", token=None).status == 200
    document = served.get("/openapi.json", token=None).json
    assert "/items/{number}" in document["paths"]
    assert f"{BASE}/run" in document["paths"]
    assert document["paths"][f"{BASE}/status"]["get"]["security"] == [{"S3GCAdminKey": []}]

    # health, part by part
    health = served.get(f"{BASE}/health")
    assert health.status == 200, health.body
    assert {part["name"]: part["state"] for part in health.json["databases"]} == {
        "users": "ok",
        "posts": "ok",
    }
    assert [health.json[part]["state"] for part in ("vault", "bucket", "schedule")] == ["ok", "ok", "ok"]
    assert {part["state"] for part in health.json["cdc"]} == {"off"}

    # the policy, and no secret in it or anywhere
    config = served.get(f"{BASE}/config").json
    assert config["settings"]["schedule_cron"] == "02:30"
    assert [each["name"] for each in config["databases"]] == ["users", "posts"]
    secrets = [shop.s3.secret_key, *(source["url"] for source in shop.sources)]
    passwords = [source["url"].split("://")[1].partition("@")[0].partition(":")[2] for source in shop.sources]
    for path in ("/config", "/health", "/status", "/operations", "/metrics?format=prometheus"):
        text = served.get(BASE + path).body.decode()
        for secret in [TOKEN, *secrets, *(word for word in passwords if word)]:
            assert secret not in text, path

    # wrong: 403, and after some of them 429, whatever comes next
    answers = [served.get(f"{BASE}/status", token=f"wrong {number}") for number in range(14)]
    assert [answer.status for answer in answers[:10]] == [403] * 10
    problem(answers[0], 403, "forbidden")
    problem(answers[-1], 429, "too-many")
    assert int(answers[-1].headers["retry-after"]) > 0
    assert served.get(f"{BASE}/status").status == 429
    assert served.get("/items/7", token=None).status == 200

    # started after the application's own start, ended before its own end
    served.terminate()
    assert served.diary == ["application started", "router started", "router ended", "application ended"]


def test_health_says_which_part_is_away(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    shop = make_shop()
    sources = [
        {**shop.sources[0], "cdc": {"backend": "postgres"}},
        {**shop.sources[1], "url": "mysql://nobody:sesame@127.0.0.1:1/none"},
    ]
    served = serve(shop, shop.policy(tmp_path / "vault", bucket="no-such-bucket-here", sources=sources))
    answer = served.get(f"{BASE}/health")
    assert answer.status == 503
    found = answer.json
    assert found["status"] == "failed"
    assert (found["vault"]["state"], found["bucket"]["state"]) == ("ok", "failed")
    assert [part["state"] for part in found["databases"]] == ["ok", "failed"]
    assert [(part["name"], part["state"]) for part in found["cdc"]] == [("users", "ok"), ("posts", "off")]
    assert "sesame" not in json.dumps(found)
    # What a cycle that captures changes makes the server keep, in whatever process it runs.
    assert found["cdc"][0]["lag_bytes"] == 0
    found = asyncio.run(_with_a_slot(shop.sources[0]["url"], lambda: served.get(f"{BASE}/health").json))
    assert found["cdc"][0]["lag_bytes"] > 100_000
    assert "a cycle captures changes" in found["cdc"][0]["detail"]
    failed = served.post(f"{BASE}/run?wait=true")
    assert failed.status in (500, 503)
    assert "sesame" not in failed.body.decode()


async def _with_a_slot(dsn: str, ask: Callable[[], Any]) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "SELECT pg_create_logical_replication_slot('s3gc_seen_by_health', 'test_decoding', true)"
        )
        await connection.execute("SELECT pg_logical_emit_message(true, 'more', repeat('x', 200000))")
        return await asyncio.to_thread(ask)
    finally:
        await connection.close()


def test_wrong_tokens_are_limited_in_bounded_memory() -> None:
    from s3gc.integrations.admin.auth import WrongTokens

    now = 0.0
    wrong = WrongTokens(burst=3, every_seconds=10, addresses=5, clock=lambda: now)
    for _ in range(3):
        assert wrong.wait_seconds("a") == 0
        wrong.note("a")
    assert wrong.wait_seconds("a") == 10
    assert wrong.wait_seconds("b") == 0
    now = 10.5
    assert wrong.wait_seconds("a") == 0
    wrong.note("a")
    assert wrong.wait_seconds("a") > 0
    now = 1000
    assert wrong.wait_seconds("a") == 0
    assert len(wrong) == 0
    for number in range(100):
        wrong.note(str(number))
    assert len(wrong) == 5


@pytest.mark.parametrize("prefix", ["", "/", "admin", "/admin/", "/a/{b}", "/a b"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    from fastapi import FastAPI

    from s3gc import create_config
    from s3gc.exceptions import ConfigurationError
    from s3gc.integrations.fastapi import setup_s3gc_plugin

    with pytest.raises(ConfigurationError, match="prefix"):
        setup_s3gc_plugin(FastAPI(), create_config(bucket="my-bucket"), prefix=prefix)


async def test_an_application_of_the_old_style_keeps_its_start_and_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """`on_event`, two policies under two prefixes, a lifespan that begins twice, and the signals as they were."""
    from fastapi import FastAPI

    from s3gc import create_config
    from s3gc.integrations.fastapi import setup_s3gc_plugin

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "none")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "none")
    monkeypatch.setenv("S3GC_ADMIN_API_KEY", TOKEN)
    app = FastAPI()
    said: list[str] = []
    for name in ("one", "two"):
        config = create_config(bucket="my-bucket", name=name, vault_path=tmp_path / name)
        setup_s3gc_plugin(app, config, prefix=f"/gc/{name}")
    app.router.add_event_handler("startup", lambda: said.append("started"))
    app.router.add_event_handler("shutdown", lambda: said.append("ended"))
    # A shell that runs the tests in the background has it ignored; it is theirs again afterwards.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, inherited))
    before = signal.getsignal(signal.SIGINT)
    for _ in range(2):
        async with app.router.lifespan_context(app):
            assert signal.getsignal(signal.SIGINT) is not before
            for name in ("one", "two"):
                assert await _get(app, f"/gc/{name}/operations") == {"items": [], "next_before": None}
        assert signal.getsignal(signal.SIGINT) is before
    assert said == ["started", "ended"] * 2


async def _get(app: Any, path: str) -> Any:
    """One request to an ASGI application, past any server."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"authorization", f"Bearer {TOKEN}".encode())],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return json.loads(b"".join(message.get("body", b"") for message in sent))
