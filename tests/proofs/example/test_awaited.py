"""Asynchronous views under uvicorn beside the shop under gunicorn: one cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from example_project import awaited, stack, together
from example_project.client import UnexpectedAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer
    from example_project.stack import Service

pytestmark = pytest.mark.proof

DATABASE = 9_020  # far above the numbers that other tests are given
PRODUCT = "/products/300/?format=json"


@pytest.fixture(scope="module")
def services(
    shared_server: RedisServer, database: None
) -> Iterator[tuple[Service, Service]]:
    url = stack.redis_database(shared_server.url, DATABASE)
    with (
        stack.shop("test-plain", stack.CACHEBRIDGE, url) as shop,
        awaited.async_service(url) as service,
    ):
        shop.await_ready()
        service.await_ready("/stats/")
        yield shop, service


def test_both_serve_one_entry(services: tuple[Service, Service]) -> None:
    """What the asynchronous view has loaded the shop shows."""
    with together.one_worker_each(*services) as (plain, tasks):
        assert tasks.get(PRODUCT).json() == plain.get(PRODUCT).json()
        for _ in range(20):
            tasks.get(PRODUCT)
        assert "L1 0" not in tasks.get("/stats/").json()["lookups"]


def test_changes_are_seen_in_both_directions(
    services: tuple[Service, Service],
) -> None:
    """Every new price is served by the other kind of view within the limit."""
    for direction in together.watch(*services, awaited.NAMES):
        assert len(direction.seen_ms) == len(direction.delays_ms), direction


def test_refusals(services: tuple[Service, Service]) -> None:
    """A wrong token, a price that is none, a product that is none."""
    with together.one_worker_each(*services) as (_, tasks):
        for path, token, price, status in (
            ("/products/300/price/", "wrong", "1", 403),
            ("/products/300/price/", stack.STAFF_TOKEN, "x", 400),
            ("/products/99999/price/", stack.STAFF_TOKEN, "1", 404),
        ):
            with pytest.raises(UnexpectedAnswerError, match=f"status {status}"):
                tasks.post(path, token, price=price)
        with pytest.raises(UnexpectedAnswerError, match="status 404"):
            tasks.get("/products/99999/")
