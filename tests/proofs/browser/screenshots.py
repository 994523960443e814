"""Make the pictures of the docs: ``make screenshots``.

The shop runs under visitors for a while first, so that the page has curves to show.
"""

from __future__ import annotations

import argparse
import html
import io
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from PIL import Image

from cachebridge.testing import redis_server
from example_project import stack
from tests.proofs.browser.driving import (
    NARROW,
    chromium,
    operator,
    site,
    trusted_everywhere,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.proofs.browser.driving import Site

COLOURS: Final = 96
"""Of a picture: flat areas need few, and a small file is kept for ever."""
WIDE: Final = {"width": 1180, "height": 900}
TERMINAL: Final = """
<meta charset="utf-8"><style>
body { margin: 0; background: #16191d; }
pre { display: inline-block; margin: 0; padding: 14px 18px; color: #e4e7ea;
      font: 13px/1.5 "DejaVu Sans Mono", "Liberation Mono", monospace; }
b { color: #7fd1a0; font-weight: 400; }
</style><pre>"""


@contextmanager
def visitors(site: Site) -> Iterator[None]:
    """Let them read while the block runs, and one price change now and then."""
    done = threading.Event()

    def visit() -> None:
        while not done.wait(0.2):
            site.visit(12)
            site.change_price()

    visiting = threading.Thread(target=visit)
    visiting.start()
    try:
        yield
    finally:
        done.set()
        visiting.join()


def save(picture: bytes, path: Path) -> None:
    """Write it with few colours."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    few = image.quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1024} KiB")


def take_page(browser: Browser, site: Site, folder: Path) -> None:
    """The page, light and wide; dark and narrow; and a key."""
    looks = {
        "admin-page": {"viewport": WIDE, "color_scheme": "light"},
        "admin-page-narrow": {"viewport": NARROW, "color_scheme": "dark"},
    }
    for name, how in looks.items():
        with operator(browser, site, **how) as context:
            page = context.new_page()
            page.goto(site.page)
            trusted_everywhere(site, page)
            save(page.screenshot(full_page=True), folder / f"{name}.png")
    with operator(browser, site, viewport=WIDE, color_scheme="dark") as context:
        page = context.new_page()
        page.goto(site.page)
        page.fill("#cb-key", "product:1")
        page.press("#cb-key", "Enter")
        page.wait_for_selector("#cb-found")
        page.evaluate("scrollTo(0, 0)")
        box = page.locator("section:has(> #cb-h-key)").bounding_box()
        assert box is not None
        around = {
            "x": box["x"] - 16,
            "y": box["y"] - 16,
            "width": box["width"] + 32,
            "height": box["height"] + 32,
        }
        picture = page.screenshot(full_page=True, clip=around)
        save(picture, folder / "admin-page-key.png")


def take_toolbar(browser: Browser, shop_url: str, folder: Path) -> None:
    """The panel of the debug toolbar, for a product that no visitor has seen yet."""
    context = browser.new_context(viewport={"width": 1180, "height": 760})
    page = context.new_page()
    page.goto(f"{shop_url}products/1/")  # of the same category
    page.goto(f"{shop_url}products/23/")
    if not page.is_visible("#djDebugToolbar"):
        page.click("#djShowToolBarButton")
    page.click("#djdt-CacheBridgePanel a")
    page.wait_for_selector("#CacheBridgePanel table")
    save(page.screenshot(), folder / "debug-toolbar.png")
    context.close()


def take_terminal(page: Page, site: Site, folder: Path) -> None:
    """What the command line says of the same fleet."""
    texts = []
    for words in (["stats"], ["why"], ["hot"]):
        key = ["product:1"] if words == ["why"] else []
        done = subprocess.run(
            [sys.executable, "-m", "cachebridge", *words, site.redis.url,
             *(["--key-prefix", ":1:"] if key else []), *key],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        shown = f"$ python manage.py cachebridge {' '.join([*words, *key])}"
        texts.append(f"<b>{shown}</b>\n{html.escape(done.stdout + done.stderr)}")
    page.set_content(TERMINAL + "\n".join(texts).rstrip() + "</pre>")
    save(page.locator("pre").screenshot(), folder / "command-line.png")


def main() -> None:
    """Start all, wait, take the pictures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=150, help="of visitors")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as data,
        pytest.MonkeyPatch.context() as patch,
        redis_server() as redis,
        chromium() as browser,
    ):
        patch.setenv("SHOP_DATABASE", f"{data}/shop")
        with site(redis) as made, visitors(made):
            time.sleep(given.seconds)  # for the curves: a point takes ten seconds
            take_page(browser, made, given.folder)
            take_terminal(browser.new_page(viewport=WIDE), made, given.folder)
            patch.setenv("SHOP_TOOLBAR", "1")
            shop = stack.shop("toolbar", stack.CACHEBRIDGE, redis.url)
            with shop:
                shop.await_ready()
                take_toolbar(browser, shop.url, given.folder)


if __name__ == "__main__":
    main()
