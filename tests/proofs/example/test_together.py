"""The Flask service beside the shop: one cache, two frameworks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from example_project import stack, together

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer
    from example_project.stack import Service

pytestmark = pytest.mark.proof

DATABASE = 9_010  # far above the numbers that other tests are given
PRODUCT = "/products/300/?format=json"


@pytest.fixture(scope="module")
def services(
    shared_server: RedisServer, database: None
) -> Iterator[tuple[Service, Service]]:
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
    with together.one_worker_each(*services) as (in_django, in_flask):
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
    with together.one_worker_each(*services) as (in_django, in_flask):
        cheapest = "/category/audio/cheapest/"
        before = in_flask.get(cheapest).json()
        assert in_flask.get(cheapest).json() == before
        page = in_django.get("/category/audio/").body.decode()
        pk = re.search(r'href="/products/(\d+)/', page)[1]
        in_django.post(f"/products/{pk}/price/", stack.STAFF_TOKEN, price="0.01")
        answers = (in_flask.get(cheapest).json()["price"] for _ in range(500))
        assert "0.01" in answers
