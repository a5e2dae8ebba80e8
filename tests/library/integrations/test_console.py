"""The console in real Chromium, state by state: what it shows, what it asks before it acts, what it never does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page
from tests.library.integrations import stage as st
from tests.library.integrations.chromium import accessible, chromium, expect, focused, opened
from tests.library.integrations.stage import DIGEST, HOSTILE, OPERATION, TOKEN, Scene, Stage

from s3gc.integrations.admin import models as m
from s3gc.results import Outcome

DESKTOP = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}


@pytest.fixture(scope="module")
def staged() -> Iterator[Stage]:
    with st.staged() as stage:
        yield stage


@pytest.fixture(scope="module")
def browser(staged: Stage) -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def stage(staged: Stage) -> Stage:
    staged.scene = Scene()
    return staged


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Signed in."""
    with opened(browser, token=TOKEN, **DESKTOP) as page:
        yield page


def idle(**changes: object) -> Scene:
    scene = Scene(restorable=True)
    told = st.result(
        outcome=Outcome.SUCCEEDED, deleted_count=410, backed_up_count=412, guards=st.guards(tripped=False)
    ).model_copy(update=changes)
    scene.operations, scene.detail = [st.line(told)], {told.operation_id: told}
    return scene


def sent(scene: Scene, what: str) -> list[object]:
    return [body for kind, name, body in scene.asked if kind == "body" and name == what]


# --- the token


def test_the_token_is_asked_for_kept_in_the_tab_and_forgotten_at_the_end(
    browser: Browser, stage: Stage
) -> None:
    with opened(browser, **DESKTOP) as page:
        page.goto(stage.url)
        expect(page.get_by_label("Admin token")).to_be_focused()
        page.get_by_label("Admin token").fill("not the token é")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The server does not know this token.")
        page.get_by_label("Admin token").fill("another")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("S3GC_ADMIN_API_KEY")
        expect(page.get_by_label("Admin token")).to_be_focused()
        assert page.evaluate("sessionStorage.length + localStorage.length + document.cookie.length") == 0

        page.get_by_label("Admin token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name="shop-media")).to_be_focused()
        page.reload()
        expect(page.get_by_role("heading", level=1, name="shop-media")).to_be_visible()
        assert TOKEN not in page.url + page.content()
        assert page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0

        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_label("Admin token")).to_have_value("")
        assert page.evaluate("sessionStorage.length") == 0


def test_each_refusal_is_a_sentence_that_says_what_to_do(page: Page, stage: Stage) -> None:
    for status, kind, headers, sentence, way in (
        (401, "unauthenticated", {}, "The server asks for a token.", "S3GC_ADMIN_API_KEY"),
        (403, "forbidden", {}, "The server does not know this token.", "S3GC_ADMIN_API_KEY"),
        (429, "too-many", {"Retry-After": "140"}, "The server asks to slow down.", "Wait 2 min 20 s"),
        (503, "no-key", {}, "The server has no admin key", "Set S3GC_ADMIN_API_KEY"),
        (503, "unavailable", {}, "did not answer.", "Look at the health"),
        (503, "stopping", {}, "The application is shutting down.", "connects again"),
        (500, "policy", {}, "The policy cannot be used.", "Correct it in the application"),
    ):
        stage.scene.problem = m.S3GCProblem(
            type=f"urn:s3gc:{kind}",
            title=kind,
            status=status,
            detail=f"{kind}: said \u202eby the server",
            errors=["one", "two"],
        )
        stage.scene.problem_headers = headers
        page.goto(stage.url)
        alert = page.get_by_role("alert").filter(has_text=f"{kind}: said \\u202eby the server").first
        expect(alert).to_contain_text(sentence)
        expect(alert).to_contain_text(way)
        expect(alert.get_by_role("listitem")).to_have_text(["one", "two"])


# --- what it shows


def test_a_bucket_without_a_cycle_says_how_to_begin(page: Page, stage: Stage) -> None:
    page.goto(stage.url)
    expect(page.get_by_role("heading", name="No cycle has run yet")).to_be_visible()
    expect(page.locator("#bar")).to_contain_text("Live")
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("heading", level=1, name="History")).to_be_focused()
    expect(page.get_by_role("main")).to_contain_text("The vault holds no operation of this policy.")


def test_the_overview_says_what_the_policy_is_and_what_is_wrong(page: Page, stage: Stage) -> None:
    stage.scene = idle()
    page.goto(stage.url)
    main = page.get_by_role("main")
    for words in (
        "Execute",
        "by a person",
        "uploads/, thumbs/",
        "7 days",
        "s3://shop-media/.s3gc/",
        "30 2 * * *",
    ):
        expect(page.get_by_role("region", name="Policy")).to_contain_text(words)
    health = page.get_by_role("region", name="Health").get_by_role("listitem")
    expect(health.filter(has_text="legacy")).to_contain_text("failed")
    expect(health.filter(has_text="legacy")).to_contain_text(
        "no answer from mysql://old:3306/shop within 5 s"
    )
    expect(main).to_contain_text("412 objects, 4.8 GiB")
    page.get_by_role("link", name="Policy").click()
    expect(main).to_contain_text("********")


def test_progress_is_live_and_ends_by_itself(page: Page, stage: Stage) -> None:
    scene = stage.scene
    page.goto(stage.url)
    expect(page.locator("#bar")).to_contain_text("Live")
    scene.run("Preflight")
    scene.tell("status")
    running = page.get_by_role("region", name="Cycle is running")
    expect(running).to_contain_text("Checking store and databases")
    expect(page.get_by_role("status")).to_contain_text("Checking store and databases")
    scene.run("Listing", listed=123_456)
    expect(running).to_contain_text("123,456 objects listed")
    assert running.get_by_role("progressbar").get_attribute("value") is None
    scene.run("Deleting", deleted=103, backed_up=412, total=412)
    expect(running).to_contain_text("103 of 412, 25 %")
    expect(running).to_contain_text("123,456 objects listed")
    expect(running.get_by_role("progressbar")).to_have_js_property("value", 103)
    expect(page.get_by_role("button", name="Start a cycle")).to_have_attribute("aria-disabled", "true")

    done = idle()
    scene.operations, scene.detail, scene.running = done.operations, done.detail, None
    scene.last_ended = m.GCEnded(
        kind=m.GCWorkKind.CYCLE,
        operation_id=OPERATION,
        started_at=st.NOW,
        ended_at=st.NOW,
        outcome=Outcome.SUCCEEDED,
    )
    scene.tell("ended", scene.last_ended.model_dump_json())
    scene.tell("status")
    expect(running).to_be_hidden()
    expect(page.get_by_role("status")).to_contain_text("The cycle has ended: Succeeded.")
    expect(page.get_by_role("region", name="The last cycle")).to_contain_text("Succeeded")


def test_a_slow_answer_does_not_bring_back_a_cycle_that_has_ended(page: Page, stage: Stage) -> None:
    stage.scene = scene = idle()
    page.goto(stage.url)
    expect(page.locator("#bar")).to_contain_text("Live")
    scene.is_slow = True
    page.get_by_role("button", name="Start a cycle").click()
    with page.expect_request("**/status"):
        page.get_by_role("dialog").get_by_role("button", name="Start").click()
    running = page.get_by_role("region", name="Cycle is running")
    expect(running).to_be_visible()
    scene.running = None
    scene.tell("status")
    expect(running).to_be_hidden()
    with page.expect_request("**/status"):
        scene.is_slow = False
    expect(running).to_be_hidden()


def test_a_broken_connection_is_said_and_mended(page: Page, stage: Stage) -> None:
    page.goto(stage.url)
    expect(page.locator("#bar")).to_contain_text("Live")
    stage.scene.problem = m.S3GCProblem(type="urn:s3gc:stopping", title="x", status=503, detail="going")
    stage.scene.hang_up += 1
    expect(page.locator("#bar")).to_contain_text("Connection lost")
    stage.scene.problem = None
    stage.scene.mode = "dry_run"
    expect(page.locator("#bar")).to_contain_text("Live")
    expect(page.get_by_role("region", name="Policy")).to_contain_text("Dry run")


def test_a_stream_that_is_silent_for_too_long_is_opened_anew(page: Page, stage: Stage) -> None:
    page.clock.install()
    page.goto(stage.url)
    expect(page.locator("#bar")).to_contain_text("Live")
    stage.scene.problem = m.S3GCProblem(type="urn:s3gc:too-many", title="x", status=429, detail="32 streams")
    page.clock.fast_forward(46_000)
    expect(page.locator("#bar")).to_contain_text("Connection lost")
    page.clock.fast_forward(2_000)
    expect(page.locator("#bar")).to_contain_text("Too many open consoles")
    stage.scene.problem = None
    page.clock.fast_forward(31_000)
    expect(page.locator("#bar")).to_contain_text("Live")


def test_a_token_that_is_no_longer_right_ends_the_session_whatever_is_open(page: Page, stage: Stage) -> None:
    stage.scene.waiting()
    page.goto(stage.url)
    page.get_by_role("button", name="Approve …").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    stage.scene.problem = m.S3GCProblem(type="urn:s3gc:forbidden", title="x", status=403, detail="rotated")
    stage.scene.hang_up += 1
    expect(page.get_by_label("Admin token")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("The server does not know this token.")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("main")).not_to_contain_text("shop-media")
    assert page.evaluate("sessionStorage.length") == 0


def test_the_history_is_read_page_by_page(page: Page, stage: Stage) -> None:
    for number in range(30):
        told = st.result(
            f"01JD9Z7Q4N5V8XKZ3M2C1B{9000 - number}",
            started_at=st.NOW - timedelta(days=number + 1),
            outcome=Outcome.FAILED if number == 27 else Outcome.SUCCEEDED,
            mode="execute",
        )
        stage.scene.operations.append(st.line(told))
        stage.scene.detail[told.operation_id] = told
    page.goto(f"{stage.url}#/history")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(25)
    page.get_by_role("button", name="Show older ones").click()
    expect(rows).to_have_count(30)
    expect(rows.nth(25).get_by_role("link")).to_be_focused()
    expect(page.get_by_role("button", name="Show older ones")).to_have_count(0)
    row = rows.filter(has_text="Failed")
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("01JD9Z7Q4N5V8XKZ3M2C1B8973")


def test_an_operation_shows_its_numbers_its_guards_and_the_report_s_charts(page: Page, stage: Stage) -> None:
    stage.scene.waiting()
    page.goto(f"{stage.url}#/operations/{OPERATION}")
    expect(page.get_by_label("The most important numbers")).to_contain_text("412")
    expect(page.get_by_role("region", name="Guards", exact=True)).to_contain_text(
        "412 of 1,000 objects in scope"
    )
    expect(page.get_by_role("img", name="60 % of all bytes")).to_be_visible()
    expect(page.get_by_role("img", name="6–12 months: 130 objects, 9 B")).to_be_visible()
    expect(page.get_by_role("img", name="Bytes by storage class")).to_be_visible()
    expect(page.get_by_role("region", name="What it costs to keep")).to_contain_text("STANDARD_IA")
    expect(page.get_by_role("img", name="11 % name an object that exists")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the report").click()
    assert download.value.suggested_filename == f"s3gc-{OPERATION}.html"

    page.goto(f"{stage.url}#/operations/01JD9Z7Q4N5V8XKZ3M2C1B0A9T")
    expect(page.get_by_role("alert")).to_contain_text("no operation 01JD9Z7Q4N5V8XKZ3M2C1B0A9T")


# --- keys are other people's text


def test_a_hostile_key_is_shown_as_what_it_is_and_runs_nowhere(page: Page, stage: Stage) -> None:
    stage.scene.waiting()
    page.goto(f"{stage.url}#/operations/{OPERATION}")
    plan = page.get_by_role("region", name="The plan", exact=True)
    expect(plan).to_contain_text("412 objects")
    shown: list[str] = []
    while True:
        expect(plan.locator("tbody th").first).to_be_visible()
        shown += plan.locator("tbody th").all_inner_texts()
        following = plan.get_by_role("button", name="Next page")
        if following.get_attribute("aria-disabled"):
            break
        number = len(shown) // 50 + 1
        following.press("Enter")
        expect(plan).to_contain_text(f"Page {number}")
        expect(plan.get_by_role("button", name="Next page")).to_be_focused()
    assert len(shown) == len(st.plan_items())
    assert "uploads/<img src=x onerror=window.owned=1>.png" in shown
    assert "uploads/invoice\\u202egnp.exe" in shown
    assert "uploads/tab\\tnew\\nline\\u001b[31mred\\u007f" in shown
    assert "uploads/zero\\u200bwidth\\u2066isolate\\u00a0space\\u3164filler" in shown
    assert HOSTILE[7] in shown
    hidden = re.compile("[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")
    assert not [key for key in shown if hidden.search(key)]
    assert page.locator("main img, main script, main svg[onload]").count() == 0

    page.get_by_label("Only keys that begin with").fill(HOSTILE[5])
    page.get_by_role("button", name="Show").click()
    expect(plan.locator("tbody th")).to_have_text([HOSTILE[5]])
    plan.get_by_role("link").click()
    expect(page.get_by_label("Key of an object")).to_have_value(HOSTILE[5])
    expect(page.get_by_role("region", name="Answer")).to_contain_text(HOSTILE[5])


# --- what it asks before it acts


def test_an_approval_names_the_numbers_and_approves_exactly_that_plan(page: Page, stage: Stage) -> None:
    scene = stage.scene.waiting()
    page.goto(stage.url)
    page.get_by_role("button", name="Approve …").click()
    dialog = page.get_by_role("dialog", name="Approve the deletion of 412 objects?")
    for words in ("shop-media", "412", "4.8 GiB", DIGEST, "41.2 % of them; the limit is 20 %"):
        expect(dialog).to_contain_text(words)
    expect(dialog.get_by_role("button", name="Go back")).to_be_focused()
    accessible(page)
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("button", name="Approve …")).to_be_focused()
    assert sent(scene, "approve") == []

    page.get_by_role("button", name="Approve …").click()
    dialog.get_by_label("Your name, for the record").fill("Ada")
    dialog.get_by_role("button", name="Approve 412 objects, 4.8 GiB").click()
    after = page.get_by_role("dialog", name="Approved: 412 objects, 4.8 GiB")
    expect(after).to_be_visible()
    assert sent(scene, "approve") == [m.GCApproveRequest(plan_digest=DIGEST, by="Ada")]
    after.get_by_role("button", name="Sweep it now").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("region", name="Cycle is running")).to_be_visible()
    assert [path for method, path, _ in scene.asked if method == "POST"] == [
        f"{st.PREFIX}/operations/{OPERATION}/approve",
        f"{st.PREFIX}/run?operation_id={OPERATION}",
    ]
    expect(page.get_by_role("heading", name="A plan waits for approval")).to_have_count(0)


def test_a_restore_is_counted_then_asked_about_then_done(page: Page, stage: Stage) -> None:
    stage.scene = scene = idle()
    page.goto(f"{stage.url}#/operations/{OPERATION}")
    page.get_by_role("button", name="Restore …").click()
    choose = page.get_by_role("dialog", name="Restore from the vault")
    choose.get_by_label("What is under a prefix").check()
    choose.get_by_role("button", name="Count what would come back").click()
    # an empty prefix would mean everything
    expect(choose.get_by_role("alert")).to_contain_text("Type the prefix that is meant.")
    assert sent(scene, "restore") == []
    choose.get_by_label("Prefix or key").fill("uploads/2024/")
    choose.get_by_role("button", name="Count what would come back").click()
    question = page.get_by_role("dialog", name="Restore 410 objects?")
    expect(question).to_contain_text("410 objects, 4.7 GiB")
    expect(question).to_contain_text("is left alone")
    wanted = m.GCRestoreRequest(dry_run=True, skip_existing=True, prefixes=["uploads/2024/"])
    assert sent(scene, "restore") == [wanted]
    question.get_by_role("button", name="Restore 410 objects, 4.7 GiB").click()
    expect(page.get_by_role("heading", level=1, name="shop-media")).to_be_visible()
    assert sent(scene, "restore") == [wanted, wanted.model_copy(update={"dry_run": False})]
    expect(page.get_by_role("main")).to_contain_text("Restored 410 objects, 4.7 GiB")


def test_a_refused_action_leaves_the_question_open_and_says_why(page: Page, stage: Stage) -> None:
    stage.scene = scene = idle()
    page.goto(stage.url)
    page.get_by_role("button", name="Start a cycle").click()
    dialog = page.get_by_role("dialog", name="Start a cycle")
    expect(dialog.get_by_label("Dry run")).to_be_checked()
    scene.problem = m.S3GCProblem(
        type="urn:s3gc:busy",
        title="Busy",
        status=409,
        detail=f"cycle {OPERATION} runs",
        operation_id=OPERATION,
    )
    dialog.get_by_role("button", name="Start").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Something else is running.")
    expect(dialog.get_by_role("alert")).to_contain_text(f"cycle {OPERATION} runs")
    scene.problem = None
    dialog.get_by_role("button", name="Start").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("region", name="Cycle is running")).to_be_visible()
    assert [path for method, path, _ in scene.asked if method == "POST"] == [f"{st.PREFIX}/run?mode=dry_run"]


# --- for everybody


def test_everything_is_reached_and_done_with_the_keyboard_alone(browser: Browser, stage: Stage) -> None:
    scene = stage.scene.waiting()
    with opened(browser, **DESKTOP) as page:

        def tab_to(name: str, presses: int = 60) -> None:
            for _ in range(presses):
                page.keyboard.press("Tab")
                if focused(page).count() and name in (focused(page).inner_text() or ""):
                    outline = focused(page).evaluate("e => getComputedStyle(e).outlineStyle")
                    assert outline != "none", f"the focus on {name} cannot be seen"
                    return
            raise AssertionError(f"Tab never came to {name}")

        page.goto(stage.url)
        expect(page.get_by_label("Admin token")).to_be_focused()
        page.keyboard.type(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name="shop-media")).to_be_focused()
        tab_to("Look through the plan")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name=re.compile(OPERATION))).to_be_focused()
        expect(page.get_by_role("button", name="Go to the plan")).to_be_visible()
        tab_to("Go to the plan")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", name="The plan", exact=True)).to_be_focused()
        page.keyboard.press("Shift+Tab")
        page.evaluate("document.getElementById('main').focus()")
        tab_to("Approve …")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Go back")).to_be_focused()
        for _ in range(6):  # the focus stays within the question
            page.keyboard.press("Tab")
            assert page.evaluate(
                "document.activeElement === document.body || !!document.activeElement.closest('dialog')"
            )
        tab_to("Approve 412 objects")
        page.keyboard.press("Enter")
        expect(page.get_by_role("button", name="Leave it to the next cycle")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("dialog")).to_have_count(0)
        expect(page.get_by_role("main")).to_contain_text("Approved")
        assert len(sent(scene, "approve")) == 1


@pytest.mark.parametrize("how", ["desktop light", "phone dark"])
def test_every_page_is_accessible_and_fits(browser: Browser, stage: Stage, how: str) -> None:
    device = DESKTOP if how.startswith("desktop") else PHONE
    with opened(browser, color_scheme=how.split()[1], reduced_motion="reduce", **device) as page:
        page.goto(stage.url)
        expect(page.get_by_label("Admin token")).to_be_focused()
        accessible(page)
        page.get_by_label("Admin token").fill(TOKEN)
        scene = stage.scene.waiting()
        scene.planned = scene.planned[: len(HOSTILE) + 2]  # looking at fifty takes axe its time
        scene.running = m.GCRunning(
            kind=m.GCWorkKind.CYCLE,
            operation_id=OPERATION,
            mode="execute",
            started_at=datetime.now(UTC),
            progress=m.GCProgress(phase="Listing", listed=5),
        )
        page.keyboard.press("Enter")
        for path, ready in (
            ("#/", "no answer from mysql"),
            ("#/history", "Waits for approval"),
            (f"#/operations/{OPERATION}", "Particulars"),
            (f"#/explain?key={'k' * 1024}", "Named by"),
            ("#/policy", "Settings"),
        ):
            page.goto(f"{stage.url}{path}")
            expect(page.get_by_role("main")).to_contain_text(ready)
            accessible(page)
