"""
The dashboard in a real browser, without a screen: Debian's Chromium, driven by Playwright.

`BEDROCK_GUARD_TEST_SCREENSHOTS` names a folder that keeps what it looks like.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dashboards import MARKUP, Served, fill, served, spending, write_settings
from journal import made_entry

from bedrock_guard.ledgers import open_ledger

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is in the dependency group browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = {
    "overview": "/",
    "spend": "/spend?last=7d&by=tag:team",
    "caches": "/caches?last=7d",
    "live": "/live",
    "entries": "/entries",
    "alerts": "/alerts",
    "stops": "/stops",
}
CHARTS = ("overview", "spend", "caches")
# Nothing is read any more, and every chart is there.
IS_READY = """() => document.readyState === "complete" && !document.getElementById("progress")
    && [...document.querySelectorAll("figure[data-chart]")].every((each) => each.dataset.drawn)"""

# Another reader of the same calls, who can be asked for the next.
FOLLOW = """() => new Promise((isOpen) => {
    const told = [], waiting = [], source = new EventSource("/live.events");
    source.addEventListener("open", isOpen);
    source.addEventListener("call", () => waiting.length ? waiting.shift()() : told.push(1));
    window.toldNext = () => new Promise((done) => told.length ? done(told.shift()) : waiting.push(done));
})"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{(tmp_path_factory.mktemp('browser') / 'ledger.db').as_posix()}"


@pytest.fixture(scope="module")
def dashboard(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with spending(url) as guard:
        guard.stop(reason=MARKUP, match={"team": "batch"})
        fill(url)
        with served(None, write_settings(tmp_path_factory.mktemp("settings"), url)) as found:
            yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


class Visit:
    """
    A fresh profile, and what went wrong in it.
    """

    def __init__(self, browser: Any, dashboard: Served, **given: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **given})
        self.page = self.context.new_page()
        self.url = dashboard.url
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", self._see)

    def _see(self, request: Any) -> None:
        if not request.url.startswith(f"{self.url}/"):
            self.wrong.append(request.url)

    def go(self, path: str) -> Any:
        answer = self.page.goto(f"{self.url}{path}")
        assert answer.status == 200
        self.page.wait_for_function(IS_READY)
        return self.page


@pytest.fixture
def visit(browser: Any, dashboard: Served) -> Iterator[Visit]:
    found = Visit(browser, dashboard)
    yield found
    found.context.close()
    assert found.wrong == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_every_page_is_shown(
    browser: Any, dashboard: Served, tmp_path: Path, scheme: str, width: int
) -> None:
    """
    In both colours, on a telephone without scrolling sideways, with nothing refused by the policy, and
    nothing asked of another host.
    """
    folder = Path(os.environ.get("BEDROCK_GUARD_TEST_SCREENSHOTS", tmp_path))
    visit = Visit(browser, dashboard, color_scheme=scheme, viewport={"width": width, "height": 800})
    for name, path in PAGES.items():
        page = visit.go(path)
        page.screenshot(path=folder / f"{name}-{scheme}-{width}.png", full_page=True)

        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        ends = page.locator(".entries .tags").evaluate_all(
            "(all) => all.map((each) => each.getBoundingClientRect().right)"
        )
        assert all(end <= width for end in ends), name
        ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (ground == "rgb(15, 20, 26)") is (scheme == "dark")
        for figure in page.query_selector_all("figure[data-chart]"):
            assert _is_drawn(figure), name
    visit.context.close()
    assert visit.wrong == []


def _is_drawn(figure: Any) -> bool:
    return figure.query_selector("canvas").evaluate(
        """(canvas) => {
            const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
            const seen = new Set();
            for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 200) seen.add(data.slice(at, at + 3).join());
            return seen.size > 3;
        }"""
    )


def test_colours_are_kept(visit: Visit) -> None:
    """
    What somebody chose holds on the next page, and charts are drawn anew.
    """
    page = visit.go("/")
    page.get_by_role("button", name="Show in dark colours").click()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page = visit.go("/spend")

    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(15, 20, 26)"
    assert page.get_by_role("button", name="Show in light colours").is_visible()


def test_a_chart_tells_figures(visit: Visit) -> None:
    """
    Of the hour that is pointed at; and without pointing, in a table.
    """
    page = visit.go("/spend?last=24h")
    page.hover("figure .u-over")
    assert page.locator(".legend .when").is_visible()
    page.get_by_text("Figures of the chart").click()

    assert page.get_by_role("table", name="Cost in USD by hour").get_by_role("row").count() == 25


def test_live_calls_appear(visit: Visit, url: str) -> None:
    """
    At the top, as text; and a pause holds them.
    """
    page = visit.go("/live")
    page.get_by_text("Following. New calls appear at the top.").wait_for()
    ledger = open_ledger(url, clock=time.time)
    for number in range(100):
        ledger.record(made_entry(f"live{number}", at_s=time.time(), tags={"user": MARKUP}))
        try:
            page.wait_for_selector("tr.new", timeout=500)
        except sync_api.TimeoutError:
            continue
        break

    row = page.locator("tr.new").first
    assert "<script>alert(1)" in row.inner_text()
    assert page.locator("tbody tr").first.get_attribute("data-id").startswith("live")
    page.get_by_text("new call").wait_for()
    page.get_by_role("button", name="Pause").click()
    assert page.get_by_role("status").inner_text() == "Paused. Calls are kept for when it goes on."
    page.evaluate(FOLLOW)
    for _ in range(2):
        ledger.record(made_entry("held", at_s=time.time(), outcome="would_refuse", reason="budget", count=3))
        page.evaluate("window.toldNext()")
    ledger.close()
    assert page.locator("tr[data-id=held]").count() == 0
    page.get_by_role("button", name="Go on").click()

    # Of refusals that are alike each line has those that came.
    told = page.locator("tr[data-id=held] .chip")
    told.nth(1).wait_for()
    assert told.all_inner_texts() == ["would_refuse x 3", "would_refuse x 3"]


def test_filters_stay_in_the_address(visit: Visit) -> None:
    """
    So that a link shows others the same, and what is empty is left out of it.
    """
    page = visit.go("/entries")
    page.get_by_label("outcome").fill("refused")
    page.get_by_label("tag").first.fill("team=ads")
    page.get_by_role("button", name="Show", exact=True).click()
    page.wait_for_url("**/entries?outcome=refused&tag=team%3Dads")
    page.reload()

    assert page.locator("#outcome").input_value() == "refused"
    assert set(page.locator("td .chip").all_inner_texts()) == {"refused"}
    page.get_by_role("link", name="Without tag team=ads").click()
    page.wait_for_url("**/entries?outcome=refused")
    page.locator("tbody th a").first.click()
    assert page.get_by_role("heading", level=1).inner_text() == "Entry"


def test_a_hostile_tag_is_text(visit: Visit) -> None:
    """
    In tables, titles, links, legends and on its own page.
    """
    for path in ("/entries", "/spend?by=model", "/caches?last=24h", "/stops", "/live", "/"):
        page = visit.go(path)
        assert page.locator("img[src=x]").count() == 0
        assert page.locator("script:not([src])").count() == 0
    page = visit.go("/entries")
    page.locator("tr[data-id=hostile] th a").click()
    assert MARKUP in page.locator("main").inner_text()
    assert "\u202e" not in page.content()


def test_the_keyboard_reaches_everything(visit: Visit) -> None:
    """
    In the order of the page, beginning with a way past the navigation; and where one is, is seen.
    """
    page = visit.go("/entries?outcome=refused")
    wanted = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")]
            .filter((each) => each.checkVisibility({ checkVisibilityCSS: true })).length"""
    )
    seen = set()
    for place in range(wanted + 5):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """() => { const all = [...document.querySelectorAll("*")]; const at = document.activeElement;
                return [all.indexOf(at), at === document.body ? "1px" : getComputedStyle(at).outlineWidth]; }"""
        )
        seen.add(name)
        assert outline != "0px"
        if place == 0:
            assert page.evaluate("document.activeElement.className") == "skip"
    page.evaluate("document.activeElement.blur()")

    assert len(seen) >= wanted


def test_it_works_without_javascript(browser: Any, dashboard: Served) -> None:
    """
    But for charts and live calls, and it says so.
    """
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for path in PAGES.values():
        page.goto(f"{dashboard.url}{path}")
        assert page.get_by_role("heading", level=1).is_visible()
    page.goto(f"{dashboard.url}/spend")
    assert page.locator("noscript p").is_visible()
    page.goto(f"{dashboard.url}/entries")
    page.get_by_label("outcome").fill("refused")
    page.get_by_role("button", name="Show", exact=True).click()
    assert set(page.locator("td .chip").all_inner_texts()) == {"refused"}
    context.close()
