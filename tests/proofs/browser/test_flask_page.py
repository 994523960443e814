"""The same page as a Flask blueprint, which has its own frame and its own guard."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from werkzeug.serving import make_server

from cachebridge.engine import registry
from cachebridge.flask_ext import Cache, dashboard
from tests.proofs.browser.driving import NARROW, WIDE, findings
from tests.rig import engine_of, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.proof

OF_ANOTHER_SITE = """
<form method=post>
<input name=verb value=clear><input name=cache value="cache 1">
<input name=sure value=yes><button>go</button></form>
<script>
document.forms[0].action = `http://127.0.0.1:${location.port}/caches/act/`;
</script>
"""
"""It is served under another name of this host."""


@pytest.fixture
def address(redis_url: str) -> Iterator[str]:
    """Serve an app whose cache has an L1 at work; yield the page's address."""
    app = Flask("scratch")
    config = {"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": redis_url}
    cache = Cache(app, config=config)
    app.register_blueprint(dashboard(authorize=lambda _right: True))
    app.add_url_rule("/other/", view_func=lambda: OF_ANOTHER_SITE)
    with app.app_context():
        engine_of(cache).listening.start()
        eventually(lambda: cache.stats().trusted)
        cache.set("k", "a secret value")
    server = make_server("127.0.0.1", 0, app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/caches/"
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        with app.app_context():
            registry.retire(engine_of(cache))


def open_page(browser: Browser, address: str, **how: object) -> tuple[Page, list[str]]:
    """Open it with a fresh profile; what goes wrong comes into the list."""
    page = browser.new_context(**how).new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console",
        lambda told: wrong.append(told.text) if told.type == "error" else None,
    )
    page.goto(address)
    return page, wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_accessible(browser: Browser, address: str, scheme: str, size: dict) -> None:
    """axe-core finds nothing in the whole page, nor does the policy refuse anything."""
    page, wrong = open_page(browser, address, viewport=size, color_scheme=scheme)
    assert findings(page, "html") == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.fill("#cb-key", "k")
    page.press("#cb-key", "Enter")
    page.wait_for_selector("#cb-found")
    assert "secret" not in page.content()
    assert findings(page, "html") == []
    assert [each for each in wrong if "favicon" not in each and "404" not in each] == []
    page.context.close()


def test_the_guard(browser: Browser, address: str) -> None:
    """Its own forms pass; one that another site lets the browser send does not."""
    page, _ = open_page(browser, address, viewport=WIDE)
    page.click("button[value=clear]")
    page.click("text=Yes: Clear")
    page.wait_for_selector("#cachebridge [role=status]")
    assert "was cleared" in page.inner_text("[role=status]")
    page.goto(address.replace("127.0.0.1", "localhost").replace("caches", "other"))
    with page.expect_response(f"{address}act/") as answered:
        page.click("button")
    assert answered.value.status == 403
    page.context.close()
