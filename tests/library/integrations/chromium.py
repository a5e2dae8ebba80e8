"""A real Chromium (Debian's), driven through its own protocol; what a page must never do is noted for every page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

__all__ = ["accessible", "chromium", "expect", "focused", "opened"]

#: Generous, for a machine where much else runs: everything waits for states, nothing for times.
PATIENCE_MS = 20_000
_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "these tests need Debian's package chromium (tools/test-packages.sh installs it)"
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser: Browser, *, token: str | None = None, **how: Any) -> Iterator[Page]:
    """A page in a context of its own. At the end: no policy was violated, nothing failed, nobody's script ran."""
    context: BrowserContext = browser.new_context(**how)
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(_WATCH)
    if token is not None:
        context.add_init_script(f"sessionStorage.setItem('s3gc-token', {token!r})")
    page = context.new_page()
    failures: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.on(
        "console",
        lambda said: (
            failures.append(said.text)
            if said.type == "error" and "Failed to load resource" not in said.text
            else None
        ),
    )
    page.on("request", lambda request: asked.append(request.url))
    try:
        yield page
        assert page.evaluate("window.violations") == []
        assert page.evaluate("window.owned ?? null") is None
        assert failures == []
        home = page.url.split("/admin/")[0]
        outside = [url for url in asked if not url.startswith((home, "blob:"))]
        assert outside == []
    finally:
        context.close()


def accessible(page: Page) -> None:
    """What axe finds by WCAG 2.2 AA, contrast included, and that nothing is wider than the page."""
    found = Axe().run(
        page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa", "best-practice"]}
    )
    assert found.violations_count == 0, found.generate_report()
    assert "color-contrast" in {rule["id"] for rule in found.response["passes"]}, "axe did not look"
    assert page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


def focused(page: Page) -> Locator:
    return page.locator(":focus")
