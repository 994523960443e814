"""The example shop under gunicorn, as a visitor meets it, on cachebridge and without.

The shop runs in processes of its own, with a database of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener

import pytest

from example_project import stack
from example_project.client import Connection, connect
from tests.rig import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cachebridge.testing import RedisServer
    from example_project.stack import Service

pytestmark = pytest.mark.proof

BACKENDS = {"cachebridge": stack.CACHEBRIDGE, "RedisCache": stack.REDIS_CACHE}
FIRST_DATABASE = 9_000  # far above the numbers that other tests are given


@pytest.fixture(scope="module", params=BACKENDS)
def shop(
    request: pytest.FixtureRequest, shared_server: RedisServer, database: None
) -> Iterator[Service]:
    number = FIRST_DATABASE + list(BACKENDS).index(request.param)
    url = stack.redis_database(shared_server.url, number)
    name = f"test-{request.param}"
    with stack.shop(name, BACKENDS[request.param], url) as service:
        service.await_ready()
        yield service


@pytest.fixture
def workers(shop: Service) -> Iterator[list[Connection]]:
    held = [one for (one,) in connect(shop).values()]
    yield held
    for connection in held:
        connection.close()


class Visitor:
    """A browser: keeps cookies, follows redirects, knows the tokens of the forms."""

    def __init__(self, shop: Service) -> None:
        self._url = shop.url
        self._opener = build_opener(HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        with self._opener.open(self._url + path, timeout=10) as response:
            return response.read().decode()

    def submit(self, page: str, action: str, **fields: str) -> str:
        token = re.search(r'csrfmiddlewaretoken" value="(\w+)"', self.get(page))
        assert token is not None
        fields["csrfmiddlewaretoken"] = token[1]
        request = Request(self._url + action, urlencode(fields).encode())
        with self._opener.open(request, timeout=10) as response:
            return response.read().decode()


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/products/",
        "/products/?page=24",
        "/category/lamps/",
        "/products/7/",
        "/cart/",
        "/stats/",
    ],
)
def test_page_says_who_served_it(workers: list[Connection], path: str) -> None:
    """Each worker puts its own footer on each page, also on one another made."""
    for connection in workers:
        answer = connection.get(path)
        page = answer.body.decode()
        assert page.count("<dt>worker</dt>") == 1
        assert f"<dt>worker</dt><dd>{answer.pid}</dd>" in page
        assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize("path", ["products/601/", "category/none/"])
def test_what_is_not_there(shop: Service, path: str) -> None:
    """Unknown things are not found, on a page of the shop."""
    with pytest.raises(HTTPError, match="404") as caught:
        Visitor(shop).get(path)
    page = caught.value.read().decode()
    caught.value.close()
    assert f"<code>/{path}</code>" in page
    assert "<dt>worker</dt>" in page
    assert 'href="/products/"' in page


def test_statistics_are_drawn(workers: list[Connection]) -> None:
    """What the worker knows of itself, and the memory of all workers that were met."""
    for _ in range(2):
        pages = [worker.get("/stats/").body.decode() for worker in workers]
    for worker, page in zip(workers, pages, strict=True):
        pid = worker.get("/stats/?format=json").json()["pid"]
        assert page.count('class="mine"') == 1
        assert f'class="mine"><dt>worker {pid}</dt>' in page
        assert "memory of the process" in page
        if worker.stats()["stats"]:
            assert "answered by L1" in page
            assert "Which level answered" in page
    pids = {worker.stats()["pid"] for worker in workers}
    assert soon(
        lambda: all(
            f"worker {pid}</dt>" in workers[0].get("/stats/").body.decode()
            for pid in pids
        )
    )


def test_health(shop: Service) -> None:
    """The shop reports the health of its cache, if it is one that can."""
    if shop.name == "test-cachebridge":
        health = json.loads(Visitor(shop).get("health/cache/"))
        assert health["caches"]["default"]["l2_reachable"] is True
    else:
        with pytest.raises(HTTPError, match="404") as caught:
            Visitor(shop).get("health/cache/")
        caught.value.close()
    assert json.loads(Visitor(shop).get("health/cache/live/"))["ok"] is True


def test_deployment_checks(shared_server: RedisServer) -> None:
    """Django and cachebridge find nothing to warn about."""
    settings = {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "SHOP_REDIS_URL": shared_server.url,
    }
    done = subprocess.run(
        [sys.executable, "-m", "example_project.manage", "check", "--deploy"],
        env={**os.environ, **settings},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout, done.stderr


SAVES = {
    "a category": (
        "/",
        "row = Category.objects.get(slug='lamps')\nrow.tagline = {new!r}\nrow.save()",
    ),
    "a product": (
        "/products/3/",
        "row = Product.objects.get(pk=3)\nrow.name = {new!r}\nrow.save()",
    ),
    "its neighbour": (
        "/products/20/",
        "row = Product.objects.get(pk=21)\nrow.name = {new!r}\nrow.save()",
    ),
    "a review": (
        "/products/4/",
        "row = Review.objects.filter(product=4).last()\nrow.text = {new!r}\nrow.save()",
    ),
    "a new review": (
        "/products/5/",
        (
            "Review.objects.create(product_id=5, stars=3, text={new!r}, author='Ann', "
            "written_on='2026-01-02')"
        ),
    ),
}


@pytest.mark.parametrize("saved", SAVES)
def test_pages_follow_the_models(
    shop: Service, shared_server: RedisServer, workers: list[Connection], saved: str
) -> None:
    """A save in any process shows on the page in every worker, if pages have tags."""
    page, change = SAVES[saved]
    new = f"New at {time.time()}."
    assert all(new not in worker.get(page).body.decode() for worker in workers)
    settings = {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "SHOP_REDIS_URL": stack.redis_database(shared_server.url, FIRST_DATABASE),
    }
    models = "from example_project.shop.models import Category, Product, Review\n"
    shell = [sys.executable, "-m", "example_project.manage", "shell", "-v0", "-c"]
    subprocess.run(
        [*shell, models + change.format(new=new)],
        env={**os.environ, **settings},
        cwd=Path(__file__).parents[3],
        check=True,
    )
    shown = [shop.name == "test-cachebridge"] * len(workers)
    eventually(
        lambda: [new in each.get(page).body.decode() for each in workers] == shown
    )


def test_hit_level(workers: list[Connection]) -> None:
    """A page is computed once, soon served out of L1, and its body grows old."""
    worker, path = workers[0], "/products/?page=11"
    first, second = worker.get(path), worker.get(path)
    ages_s = [float(answer.headers["X-Cache-Age"]) for answer in (first, second)]
    assert 0 <= ages_s[0] < ages_s[1]
    if worker.stats()["stats"]:
        assert first.headers["X-Cache-Level"] == "computed"
        assert soon(lambda: worker.get(path).headers["X-Cache-Level"] == "L1")
    else:
        assert first.headers["X-Cache-Level"] == "n/a"


def test_price_change_reaches_every_page(workers: list[Connection]) -> None:
    """A new price shows on product and catalogue pages of every worker."""
    writer, reader = workers
    product = "/products/1/"
    page = next(
        path
        for path in (f"/category/lamps/?page={number}" for number in (1, 2, 3))
        if f'"{product}"' in writer.get(path).body.decode()
    )
    for path in (product, page):
        reader.get(path)
    changed = writer.post(f"{product}price/", stack.STAFF_TOKEN, price="1234.50")
    assert changed.json() == {"id": 1, "price": "1234.50"}
    for path in (product, page):
        assert b"1234.50" in writer.get(path).body
        assert soon(lambda path=path: b"1234.50" in reader.get(path).body)


def soon(is_so: Callable[[], bool]) -> bool:
    """Ask a thousand times; a message needs the time of one or two questions."""
    return any(is_so() for _ in range(1_000))


@pytest.mark.parametrize(
    ("token", "price", "status"),
    [
        ("", "1", 403),
        ("wrong", "1", 403),
        ("right", "", 400),
        ("right", "cheap", 400),
        ("right", "NaN", 400),
        ("right", "-1", 400),
        ("right", "1e30", 400),
    ],
)
def test_price_refused(shop: Service, token: str, price: str, status: int) -> None:
    """No price changes without the staff's token, or to what is no price."""
    token = stack.STAFF_TOKEN if token == "right" else token
    form = urlencode({"token": token, "price": price}).encode()
    with pytest.raises(HTTPError, match=str(status)) as caught:
        build_opener().open(f"{shop.url}products/2/price/", form, timeout=10)
    caught.value.close()


def test_cart(shop: Service) -> None:
    """A cart belongs to its visitor and follows what the visitor does."""
    visitor, other = Visitor(shop), Visitor(shop)
    assert "Nothing in it yet" in visitor.get("cart/")
    for _ in range(2):
        cart = visitor.submit("products/51/", "cart/51/add/")
    assert 'href="/products/51/"' in cart
    assert 'value="2"' in cart
    assert "Nothing in it yet" in other.get("cart/")
    assert 'value="5"' in visitor.submit("cart/", "cart/51/", quantity="5")
    assert 'class="badge">5<' in visitor.get("products/7/")
    assert "Nothing in it yet" in visitor.submit("cart/", "cart/51/", quantity="0")


def test_loading_twice_changes_nothing(database: None) -> None:
    """A filled shop is left alone."""
    assert stack.prepare_database().startswith("600 products in 12 categories")
