"""The Flask service beside the shop: one cache, two frameworks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from example_project import stack, together
from example_project.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer
    from example_project.stack import Service

DATABASE = 9_010  # far above the numbers that other tests are given
PRODUCT = "/products/300/?format=json"


@pytest.fixture(scope="module")
def services(
    shared_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Service]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHOP_DATABASE", str(tmp_path_factory.mktemp("shop") / "shop"))
        stack.prepare_database()
        url = stack.redis_database(shared_server.url, DATABASE)
        with (
            stack.shop("test-beside", stack.CACHEBRIDGE, url) as shop,
            together.price_service(url) as service,
        ):
            shop.await_ready()
            service.await_ready()
            yield shop, service


def test_both_serve_one_entry(services: tuple[Service, Service]) -> None:
    """What the service has loaded the shop shows, as page and as JSON."""
    (in_django, *_), (in_flask, *_) = (
        [held[0] for held in connect(each).values()] for each in services
    )
    of_flask = in_flask.get(PRODUCT).json()
    of_django = in_django.get(PRODUCT).json()
    assert of_flask == of_django
    assert of_flask["price"].encode() in in_django.get("/products/300/").body


def test_changes_are_seen_in_both_directions(
    services: tuple[Service, Service],
) -> None:
    """Every new price is served by the other framework within the limit."""
    for direction in together.watch(*services):
        assert len(direction.seen_ms) == len(direction.delays_ms), direction


def test_a_change_in_the_shop_ends_what_flask_has_memoized(
    services: tuple[Service, Service],
) -> None:
    """The cheapest of a category is found anew when a price in it changes."""
    shop, service = services
    (in_django, *_), (in_flask, *_) = (
        [held[0] for held in connect(each).values()] for each in (shop, service)
    )
    slug = "audio"
    before = in_flask.get(f"/category/{slug}/cheapest/").json()
    assert in_flask.get(f"/category/{slug}/cheapest/").json() == before
    pk = _a_product_of(in_django, slug)
    in_django.post(f"/products/{pk}/price/", stack.STAFF_TOKEN, price="0.01")
    after = before
    for _ in range(500):
        after = in_flask.get(f"/category/{slug}/cheapest/").json()
        if after["price"] == "0.01":
            break
    assert after["price"] == "0.01"


def _a_product_of(connection: object, slug: str) -> int:
    page = connection.get(f"/category/{slug}/").body.decode()
    return int(page.partition('href="/products/')[2].partition("/")[0])
