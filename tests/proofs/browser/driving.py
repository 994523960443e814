"""A Chromium of the system, the shop with its operator logged in, and axe-core."""

from __future__ import annotations

import os
import shutil
from contextlib import ExitStack, contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.request import Request, urlopen

from playwright.sync_api import sync_playwright

from example_project import stack, together
from tests.rig import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page

    from cachebridge.testing import RedisServer

NARROW: Final = {"width": 360, "height": 740}
WIDE: Final = {"width": 1280, "height": 900}
AXE: Final = files("axe_playwright_python").joinpath("axe.min.js").read_text()
RULES: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


def find_chromium() -> str | None:
    """Return the path of a Chromium on PATH."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start it; ``find_chromium`` has found one."""
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=flags
        )
        try:
            yield browser
        finally:
            browser.close()


class Site(NamedTuple):
    """The shop under two workers, with the Flask service beside it, on one Redis."""

    url: str
    service: str
    redis: RedisServer

    @property
    def page(self) -> str:
        """The address of the admin page."""
        return self.url + stack.CACHES_PAGE

    def visit(self, rounds: int = 30) -> None:
        """Read products, as visitors do, until all workers have read."""
        for number in range(rounds):
            for pk in (1, 2, 1 + number % 40):
                for address in (self.url, self.service):
                    urlopen(f"{address}products/{pk}/", timeout=PATIENCE_S).close()

    def change_price(self, price: str = "12.50") -> None:
        """Change a product that all have read."""
        request = Request(f"{self.url}products/1/price/", f"price={price}".encode())
        request.add_header("Authorization", f"Bearer {stack.STAFF_TOKEN}")
        urlopen(request, timeout=PATIENCE_S).close()


@contextmanager
def site(redis: RedisServer) -> Iterator[Site]:
    """Start it; ``SHOP_DATABASE`` names its database."""
    stack.prepare_database()
    stack.manage("operator", SHOP_STAFF_TOKEN=stack.STAFF_TOKEN)
    with ExitStack() as running:
        shop = running.enter_context(
            stack.shop("browser", stack.CACHEBRIDGE, redis.url)
        )
        service = running.enter_context(together.price_service(redis.url))
        shop.await_ready()
        service.await_ready()
        made = Site(shop.url, service.url, redis)
        made.visit()
        yield made


@contextmanager
def operator(browser: Browser, site: Site, **how: object) -> Iterator[BrowserContext]:
    """Log in with a fresh profile; ``how`` is for ``Browser.new_context``."""
    context = browser.new_context(**how)
    context.set_default_timeout(1000 * PATIENCE_S)
    page = context.new_page()
    page.goto(site.page)
    page.fill("#id_username", "operator")
    page.fill("#id_password", stack.STAFF_TOKEN)
    page.press("#id_password", "Enter")
    page.wait_for_selector("#cachebridge")
    page.close()
    try:
        yield context
    finally:
        context.close()


def findings(page: Page, part: str = ".cb") -> list[str]:
    """Return what axe-core finds wrong with a part of the page, ours by default.

    The frame around it is the admin's.
    """
    page.evaluate(AXE)  # past the policy: as a developer's tools do
    found = page.evaluate(
        "([where, how]) => axe.run({include: where}, how)",
        [[part], RULES],
    )
    return [
        f"{rule['id']}: {node['html']} {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def trusted_everywhere(site: Site, page: Page) -> None:
    """Wait until the page shows all five L1s as trusted, reading meanwhile."""

    def all_trusted() -> bool:
        site.visit(1)
        page.reload()
        chips = page.locator("#cb-matrix .cb-ok")
        return chips.count() >= 3 and page.locator("#cb-matrix .cb-bad").count() == 0

    eventually(all_trusted, "every process trusts its L1")
