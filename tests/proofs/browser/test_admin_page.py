"""The admin page as an operator meets it: light, dark, narrow, and by keyboard."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from cachebridge.testing import redis_server
from tests.proofs.browser.driving import (
    NARROW,
    WIDE,
    findings,
    operator,
    site,
    trusted_everywhere,
)
from tests.rig import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.proofs.browser.driving import Site

pytestmark = pytest.mark.proof
LOOKS = [(scheme, size) for scheme in ("light", "dark") for size in (WIDE, NARROW)]


@pytest.fixture(scope="module")
def shop(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with pytest.MonkeyPatch.context() as patch, redis_server() as redis:
        patch.setenv("SHOP_DATABASE", str(tmp_path_factory.mktemp("shop") / "shop"))
        with site(redis) as made:
            yield made


@pytest.fixture
def page(browser: Browser, shop: Site) -> Iterator[Page]:
    """A wide, light page on which all processes are trusted, and nothing went wrong."""
    with operator(browser, shop, viewport=WIDE) as context:
        page = context.new_page()
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda told: wrong.append(told.text) if told.type == "error" else None,
        )
        page.goto(shop.page)
        trusted_everywhere(shop, page)
        yield page
        assert wrong == []


@pytest.mark.parametrize(
    ("scheme", "size"), LOOKS, ids=[f"{s}-{z['width']}" for s, z in LOOKS]
)
def test_accessible(browser: Browser, shop: Site, scheme: str, size: dict) -> None:
    """axe-core finds nothing, on the page, with an answer, and before a switch."""
    how = {"viewport": size, "color_scheme": scheme}
    with operator(browser, shop, **how) as context:
        page = context.new_page()
        page.goto(shop.page)
        trusted_everywhere(shop, page)
        assert findings(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "the page scrolls sideways"
        )
        page.fill("#cb-key", "product:1")
        page.press("#cb-key", "Enter")
        page.wait_for_selector("#cb-found")
        assert findings(page) == []
        page.click("button[value=clear] >> nth=0")
        page.wait_for_selector(".cb-question")
        assert findings(page) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_of_the_admin(browser: Browser, shop: Site, scheme: str) -> None:
    """What the admin's button says goes before what the system says."""
    other = {"light": "dark", "dark": "light"}[scheme]
    with operator(browser, shop, viewport=WIDE, color_scheme=other) as context:
        page = context.new_page()
        page.goto(shop.page)
        page.evaluate(f"localStorage.theme = '{scheme}'")
        page.reload()
        assert page.get_attribute("html", "data-theme") == scheme
        assert findings(page) == []
        colour = page.evaluate(
            "getComputedStyle(document.querySelector('#cb-matrix td')).backgroundColor"
        )
        brightness = sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
        assert (brightness > 128) == (scheme == "light")


def test_by_keyboard_alone(page: Page) -> None:
    """Every control can be reached, seen, and used without a mouse."""
    order: list[str] = page.evaluate(
        """[...document.querySelectorAll('.cb *')]
        .filter((each) => each.matches('a, button, input, select, [tabindex]'))
        .filter((each) => each.type !== 'hidden' && each.checkVisibility())
        .map((each) => each.id || each.ariaLabel || each.textContent)"""
    )
    page.focus("#cb-pause")
    met = []
    for _ in range(len(order)):
        found = page.evaluate(
            """() => { const at = document.activeElement;
            const style = getComputedStyle(at);
            return [at.closest('.cb') && (at.id || at.ariaLabel || at.textContent),
                    style.outlineStyle !== 'none' && parseFloat(style.outlineWidth)]}"""
        )
        if found[0]:
            assert found[1] >= 2, f"focus on {found[0]} is not seen"
            met.append(found[0])
        page.keyboard.press("Tab")
    assert met == order
    page.focus("#cb-key")
    page.keyboard.type("product:1")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cb-found")
    assert "in L1 and trusted" in page.inner_text("#cb-found")
    page.focus("button[value=l1_off] >> nth=0")
    page.keyboard.press("Enter")
    page.wait_for_selector(".cb-question")
    page.keyboard.press("Tab")
    page.focus("text=No, go back")
    page.keyboard.press("Enter")
    page.wait_for_selector("#cachebridge")


def test_renewed(page: Page, shop: Site) -> None:
    """New figures come by themselves; focus stays; Pause stops it."""
    before = page.inner_text("#cb-at time")
    page.focus("#cb-figures-0")
    page.evaluate("document.getElementById('cb-figures-0').scrollLeft = 10")
    eventually(lambda: page.inner_text("#cb-at time") != before)
    assert page.evaluate("document.activeElement.id") == "cb-figures-0"
    page.click("#cb-pause")
    assert page.inner_text("#cb-pause") == "Go on"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.click("#cb-pause")
    eventually(lambda: page.evaluate("1") and any("state" in each for each in asked))


def test_curves(page: Page, shop: Site) -> None:
    """They are drawn, and told to who does not see them."""

    def drawn() -> bool:
        shop.visit(1)
        lines = page.locator("#cb-servers polyline")
        return lines.count() > 0 and lines.first.evaluate(
            "it => it.getBBox().width > 0"
        )

    eventually(drawn)
    told = page.locator("#cb-servers svg").first.get_attribute("aria-label")
    assert told is not None
    assert "L1 hit ratio of the last" in told


def test_switches(page: Page, shop: Site) -> None:
    """L1 off is seen in every process, and on again."""
    for verb, chip in (("l1_off", ".cb-warn"), ("l1_on", ".cb-ok")):
        page.click(f"button[value={verb}] >> nth=0")
        page.click("text=/^Yes: Turn L1/")
        page.wait_for_selector("#cachebridge [role=status]")

        def all_have(chip: str = chip) -> bool:
            shop.visit(1)
            page.reload()
            return page.locator(f"#cb-matrix {chip}").count() >= 3

        eventually(all_have)


def test_without_javascript(browser: Browser, shop: Site) -> None:
    """Tables, answers and switches; no button that does nothing."""
    with operator(browser, shop, viewport=WIDE, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(shop.page)
        assert page.locator("#cb-matrix tbody tr").count() >= 2
        assert not page.is_visible("#cb-pause")
        page.fill("#cb-key", "product:1")
        page.press("#cb-key", "Enter")
        assert page.locator("#cb-found tbody tr").count() >= 3
        page.click("button[value=l1_on] >> nth=0")
        page.click("text=/^Yes: Turn L1 on/")
        assert "L1 is on in every process" in page.inner_text("[role=status]")


def test_redis_away(browser: Browser, shop: Site) -> None:
    """The page says so while it is open, and goes on when Redis is back."""
    with operator(browser, shop, viewport=WIDE) as context:
        page = context.new_page()
        page.goto(shop.page)
        shop.redis.kill()
        try:
            page.wait_for_selector("#cb-trouble .cb-bad", timeout=1000 * PATIENCE_S)
            assert "cannot be asked" in page.inner_text("#cb-trouble")
            assert findings(page) == []
        finally:
            shop.redis.restart()
        eventually(lambda: page.locator("#cb-trouble .cb-bad").count() == 0)


def test_the_site_away(browser: Browser, shop: Site) -> None:
    """The page says that its figures are old."""
    with operator(browser, shop, viewport=WIDE) as context:
        page = context.new_page()
        page.goto(shop.page)
        context.set_offline(True)
        page.wait_for_selector("#cb-silence:not([hidden])")
        context.set_offline(False)
        page.wait_for_selector("#cb-silence", state="hidden")
