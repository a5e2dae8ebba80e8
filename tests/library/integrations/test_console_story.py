"""The console before the plugin itself, on a real server process: from the token to the restore, in one sitting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.library.integrations.chromium import chromium, expect, opened
from tests.library.integrations.conftest import Shop
from tests.library.integrations.serving import BASE, TOKEN, Served
from tests.testbed.services import let_time_pass, s3_client

BIDI = "left/invoice\u202egnp.exe"
HOSTILE = (
    BIDI,
    "left/<img src=x onerror=window.owned=1>.png",
    "left/\"><svg onload=window.owned=1> '`${window.owned=1}`",
    "left/tab\tand\u200bzero\u3164width",
    "left/" + "/".join(["x" * 250] * 4),
)
_LISTEN = """
window.said = [];
document.addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  window.said.push(document.getElementById("status").textContent);
}).observe(document.getElementById("status"), { childList: true }));
"""


def test_a_plan_is_made_watched_looked_through_approved_swept_and_restored(
    make_shop: Callable[..., Shop], serve: Callable[..., Served], tmp_path: Path
) -> None:
    shop = make_shop(orphans=60)
    for key in HOSTILE:
        s3_client(shop.s3).put_object(Bucket=shop.bucket, Key=key, Body=b"left")
    let_time_pass(shop.s3, shop.bucket)
    orphans = {*shop.orphans, *HOSTILE}
    served = serve(
        shop,
        shop.policy(tmp_path / "vault", mode="execute", approval="manual", limits={"maxDeletePercent": 99}),
    )

    # each file with the headers that keep the page to itself, and once is enough
    for name, kind in (
        ("", "text/html"),
        ("console/main.js", "text/javascript"),
        ("console/console.css", "text/css"),
    ):
        file = served.get(f"{BASE}/{name}", token=None)
        assert (file.status, file.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
        policy = {part.strip() for part in file.headers["content-security-policy"].split(";")}
        assert policy == {
            *("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"),
            *("img-src 'self' data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
            *("require-trusted-types-for 'script'", "trusted-types 'none'"),
        }
        assert file.headers["x-content-type-options"] == "nosniff"
        assert file.headers["referrer-policy"] == "no-referrer"
        again = served.get(f"{BASE}/{name}", token=None, headers={"If-None-Match": file.headers["etag"]})
        assert (again.status, again.body) == (304, b"")
    assert served.get(f"{BASE}/console/..%2froutes.py", token=None).status in (401, 404)

    with chromium() as browser, opened(browser) as page:
        page.add_init_script(_LISTEN)
        main = page.get_by_role("main")
        page.goto(f"{served.url}{BASE}/")
        page.get_by_label("Admin token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("The server does not know this token.")
        page.get_by_label("Admin token").fill(TOKEN)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name=shop.bucket)).to_be_focused()
        expect(page.get_by_role("heading", name="No cycle has run yet")).to_be_visible()
        expect(page.get_by_role("region", name="Health")).to_contain_text("1 column can be read")

        # a cycle is watched, and waits for a person
        page.get_by_role("button", name="Start a cycle").click()
        page.get_by_label("Execute, as the policy says").check()
        page.get_by_role("dialog").get_by_role("button", name="Start").click()
        pending = page.get_by_role("region", name="A plan waits for approval")
        expect(pending).to_contain_text(f"{len(orphans)} objects")
        for sentence in ("The cycle has started.", "The cycle has ended: Waits for approval."):
            served.until(
                lambda said=sentence: said in page.evaluate("window.said"), f"it is said: {sentence}"
            )

        # its plan is looked through
        page.get_by_role("link", name="Look through the plan").click()
        plan = page.get_by_role("region", name="The plan", exact=True)
        expect(plan).to_contain_text("no reference named it")
        expect(page.get_by_role("region", name="Where it is").get_by_role("img").first).to_be_visible()
        shown = plan.locator("tbody th").all_inner_texts()
        plan.get_by_role("button", name="Next page").click()
        expect(plan).to_contain_text("Page 2")
        shown += plan.locator("tbody th").all_inner_texts()
        assert len(shown) == len(orphans)
        assert {
            "left/invoice\\u202egnp.exe",
            "left/tab\\tand\\u200bzero\\u3164width",
            *HOSTILE[1:3],
            HOSTILE[4],
        } <= {*shown}

        # approved and swept
        page.get_by_role("button", name="Approve …").click()
        page.get_by_label("Your name, for the record").fill("Ada")
        page.get_by_role("button", name=f"Approve {len(orphans)} objects").click()
        page.get_by_role("button", name="Sweep it now").click()
        page.get_by_role("link", name="Overview").click()
        last = page.get_by_role("region", name="The last cycle")
        expect(last).to_contain_text("Succeeded")
        assert shop.keys() == set(shop.referenced)

        # one object comes back, then all others
        page.get_by_role("link", name="History").click()
        expect(page.locator("tbody tr")).to_have_count(1)
        page.locator("tbody").get_by_role("link").click()
        expect(plan.locator("tbody tr").first).to_contain_text("deleted")
        for key, number in ((BIDI, "1 object"), ("", f"{len(orphans) - 1} objects")):
            page.get_by_role("button", name="Restore …").click()
            if key:
                page.get_by_label("One object").check()
                page.get_by_label("Prefix or key").fill(key)
            page.get_by_role("button", name="Count what would come back").click()
            page.get_by_role("button", name=f"Restore {number}").click()
            expect(main).to_contain_text(f"Restored {number}")
            page.go_back()
        assert shop.keys() == {*shop.referenced, *orphans}

        # why
        page.goto(f"{served.url}{BASE}/#/explain?key=avatars/1.jpg")
        expect(page.get_by_role("region", name="Answer")).to_contain_text("Is kept")
        expect(page.get_by_role("region", name="Named by")).to_contain_text("users.avatar_url")
        page.get_by_role("link", name="Policy").click()
        expect(main).to_contain_text(shop.bucket)
        assert shop.s3.secret_key not in page.content()

        # a stream that is open does not hold the server
        served.terminate()
        expect(page.locator("#bar")).to_contain_text("Connection lost")
