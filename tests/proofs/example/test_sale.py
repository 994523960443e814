"""The flash sale: exactly its stock is sold, through three kinds of services.

The services run in processes of their own, over a Redis of their own. Each test has a
sale of its own.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from cachebridge.errors import L2UnavailableError
from cachebridge.testing import redis_server
from example_project import awaited, buyers, sell, stack, together
from example_project.client import UnexpectedAnswerError, connect
from example_project.sale.selling import AwaitedSale, Lists, Outcome, Sale
from tests.proofs.example.test_shop import Visitor
from tests.rig import eventually, lone_cache

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cachebridge.testing import RedisServer
    from example_project.client import Connection
    from example_project.stack import Service

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[3]
USER = "anna"


# -- services ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def services(redis: RedisServer, database: None) -> Iterator[dict[str, Service]]:
    with (
        stack.shop("test-sale", stack.CACHEBRIDGE, redis.url) as shop,
        awaited.async_service(redis.url) as tasks,
        together.price_service(redis.url, workers=1) as flask,
    ):
        shop.await_ready()
        tasks.await_ready("/stats/")
        flask.await_ready()
        yield {buyers.DJANGO: shop, buyers.TASKS: tasks, buyers.FLASK: flask}


@pytest.fixture
def workers(services: dict[str, Service]) -> Iterator[list[Connection]]:
    """A connection to each worker: two of gunicorn, uvicorn's, Flask's."""
    held = [
        one for service in services.values() for (one,) in connect(service).values()
    ]
    yield held
    for connection in held:
        connection.close()


@pytest.fixture
def open_sale(redis: RedisServer, services: dict[str, Service]) -> Any:
    del services  # they have prepared the database

    def open_one(*options: str, stock: int) -> int:
        return int(manage(redis, "open", "--stock", str(stock), *options))

    return open_one


def manage(redis: RedisServer, *arguments: str) -> str:
    return stack.manage("sale", *arguments, SHOP_REDIS_URL=redis.url)


def order(worker: Connection, number: int, user: str = USER) -> str:
    path = f"/sale/{number}/orders/"
    return worker.post(path, stack.STAFF_TOKEN, user=user).json()["outcome"]


def test_load_script(
    services: dict[str, Service], redis: RedisServer, capsys: pytest.CaptureFixture
) -> None:
    """Buyers in all services at once buy exactly all; then nothing asks Redis."""
    number = sell.open_sale(redis.url, stock=300)
    seen = buyers.sell(services, number, stock=300, after_s=0.5)
    assert sell.show(seen) == []
    assert seen.audit["recorded"] == seen.outcomes["bought"] == 300
    printed = capsys.readouterr().out
    for promise in ("oversold", "undersold", "answers without Redis", "slowest"):
        assert promise in printed


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"recorded": 11}, "1 pieces were sold twice"),
        ({"recorded": 9}, "1 pieces were not sold"),
        ({"left": 1}, "1 are left"),
        ({"most_per_user": 3}, "more than the limit"),
        ({"denied_who_bought": 1}, "deny list has bought"),
    ],
)
def test_load_script_fails(wrong: dict[str, int], says: str) -> None:
    """Each broken promise is named."""
    kept = {
        "delivered": 10,
        "recorded": 10,
        "left": 0,
        "most_per_user": 2,
        "denied_who_bought": 0,
    }
    names = (buyers.DJANGO, buyers.TASKS, buyers.FLASK, buyers.FLASK)
    requests = [buyers.Request(name, 0, 1.0, "bought") for name in names]
    requests += requests[:1] * 6 + [
        buyers.Request(buyers.FLASK, 0, 1.0, "sold-out", True)
    ]
    phase = buyers.Phase("all", 1.0, requests, 0)
    assert buyers.Result(kept, requests, [phase], [], 1.0).broken() == []
    broken = buyers.Result(kept | wrong, requests, [phase], ["failed"], None).broken()
    assert any(says in text for text in broken)
    assert any("requests failed" in text for text in broken)
    assert any("did not know the deny list" in text for text in broken)


def test_a_piece_that_comes_back(
    services: dict[str, Service], workers: list[Connection], open_sale: Any
) -> None:
    """A visitor buys the last one; all refuse; it is returned; any service sells it."""
    number = open_sale("--per-user", "1", stock=1)
    visitor, shop = Visitor(services[buyers.DJANGO]), services[buyers.DJANGO]
    assert "It is yours." in visitor.submit("sale/", f"sale/{number}/buy/")
    eventually(lambda: 'data-state="sold-out"' in visitor.get("sale/"))
    assert {order(worker, number, "bert") for worker in workers} == {"sold-out"}
    for page in ("stock", "mine", "lists"):
        assert "<dt>worker</dt>" in visitor.get(f"sale/{number}/{page}/")
    mine = visitor.get(f"sale/{number}/mine/")
    back = mine.split('action="/')[1].split('"')[0]
    assert "Nothing yet" in visitor.submit(f"sale/{number}/mine/", back)
    eventually(lambda: order(workers[-1], number, "bert") == "bought")
    assert order(workers[0], number, "bert") in {"limit", "sold-out"}
    assert "Nothing yet" in Visitor(shop).get(f"sale/{number}/mine/")


def test_lists(redis: RedisServer, workers: list[Connection], open_sale: Any) -> None:
    """What a worker or a command puts on a list every worker knows, and no longer."""
    number = open_sale("--invited-only", stock=10)
    change = f"/sale/{number}/lists/change/"

    def all_say(outcome: str) -> bool:
        return {order(worker, number) for worker in workers} == {outcome}

    assert all_say("not-invited")
    workers[0].post(change, stack.STAFF_TOKEN, users=f"{USER} bert", kind="allow")
    eventually(lambda: all_say("limit"))  # the first two bought
    manage(redis, "deny", USER)
    eventually(lambda: all_say("denied"))
    manage(redis, "unlist", USER)
    eventually(lambda: all_say("not-invited"))
    page = workers[1].get(f"/sale/{number}/lists/").body.decode()
    assert "staff: anna, bert -&gt; allow" in page
    assert "manage.py: anna -&gt; deny" in page
    manage(redis, "close")
    workers[0].post(change, stack.STAFF_TOKEN, users=USER, kind="allow")
    eventually(lambda: all_say("closed"))


def test_live_figures(workers: list[Connection], open_sale: Any) -> None:
    """The figures follow what other processes sell, and page views arrive."""
    number = open_sale(stock=10)
    shop, flask = workers[0], workers[-1]
    assert b"10</b> of 10 left" in shop.get("/sale/").body
    order(flask, number)

    def figures() -> tuple[int, ...]:
        seen = shop.get(f"/sale/{number}/figures/").json()
        return tuple(seen[name] for name in ("left", "sold", "recorded", "views"))

    eventually(lambda: figures() == (9, 1, 1, 1))


def test_refusals(workers: list[Connection], open_sale: Any) -> None:
    """What cannot be meant is refused, by every service that has the address."""
    number = open_sale(stock=1)
    orders, change = f"/sale/{number}/orders/", f"/sale/{number}/lists/change/"
    for path, form, status in (
        (orders, {"user": "two words"}, 400),
        (orders, {}, 400),
        (change, {"users": "a", "kind": "maybe"}, 400),
        (change, {"users": "", "kind": "deny"}, 400),
        ("/sale/999999/lists/change/", {"users": "a", "kind": "deny"}, 404),
    ):
        for worker in workers if path == orders else workers[:1]:
            with pytest.raises(UnexpectedAnswerError, match=f"status {status}"):
                worker.post(path, stack.STAFF_TOKEN, **form)
            with pytest.raises(UnexpectedAnswerError, match="status 403"):
                worker.post(path, "wrong", **form)


def test_both_frameworks_load_the_same(open_sale: Any, redis: RedisServer) -> None:
    """Rows and lists are equal, type by type, from Django's ORM and from SQL."""
    number = open_sale(stock=1)
    manage(redis, "deny", USER)
    code = f"""
import django; django.setup()
from example_project.price_service import _connect
from example_project.sale.flask_api import SqlRows
from example_project.sale.records import Rows
ours, theirs = Rows(), SqlRows(_connect)
shown = [repr(sorted(rows.activity({number}).items())) for rows in (ours, theirs)]
print(shown[0].replace("datetime.timezone.utc", "") ==
      shown[1].replace("datetime.timezone.utc", ""),
      ours.lists({number}) == theirs.lists({number}), theirs.activity(99999))
"""
    settings = {"DJANGO_SETTINGS_MODULE": "example_project.settings"}
    settings["SHOP_REDIS_URL"] = redis.url
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "True True None\n"


def test_redis_away(
    redis: RedisServer, workers: list[Connection], open_sale: Any
) -> None:
    """Without Redis nothing is sold; after a recount exactly what is left."""
    number = open_sale("--per-user", "9", stock=9)
    assert {order(worker, number) for worker in workers} == {"bought"}
    redis.kill()
    for worker in workers:
        eventually(lambda worker=worker: order(worker, number) == "try-again")
    assert b"unknown</b> of 9 left" in workers[0].get("/sale/").body
    redis.restart()  # empty
    assert manage(redis, "recount") == f"sale {number}: 5 left"
    sold = Counter()

    def is_sold_out() -> bool:
        outcomes = [order(worker, number) for worker in workers]
        sold.update(outcomes)
        return outcomes == ["limit"] * len(workers)

    eventually(is_sold_out)
    assert sold["bought"] == 5


def test_over_memcached(
    redis: RedisServer, services: dict[str, Service], shared_memcached: Any
) -> None:
    """The shop sells exactly its stock with the counters in Memcached, too."""
    url, memcached = stack.redis_database(redis.url, 2), shared_memcached.url
    with stack.shop(
        "test-sale-memcached", stack.CACHEBRIDGE, url, memcached_url=memcached
    ) as shop:
        shop.await_ready()
        printed = stack.manage(
            *("sale", "open", "--stock", "5", "--per-user", "9", "--deny", "bot"),
            SHOP_REDIS_URL=url,
            SHOP_MEMCACHED_URL=memcached,
        )
        held = [one for (one,) in connect(shop).values()]
        number = int(printed)
        assert {order(worker, number, "bot") for worker in held} == {"denied"}
        sold = Counter(order(worker, number) for worker in held * 4)
        assert sold == {"bought": 5, "sold-out": 3}
        audit = held[0].get(f"/sale/{number}/audit/").json()
        assert (audit["recorded"], audit["left"]) == (5, 0)
        for worker in held:
            worker.close()


def test_without_counters(redis: RedisServer, services: dict[str, Service]) -> None:
    """On another cache backend the shop has no sale, and says so by 404."""
    url = stack.redis_database(redis.url, 1)
    with stack.shop("test-no-sale", stack.REDIS_CACHE, url, workers=1) as shop:
        shop.await_ready()
        assert "Sale" not in Visitor(shop).get("")
        with pytest.raises(HTTPError, match="404") as caught:
            Visitor(shop).get("sale/")
        caught.value.close()


# -- the rules, in this process ------------------------------------------------------


class Shelf:
    """Records in memory, which may fail."""

    def __init__(self) -> None:
        self.sold: list[str] = []
        self.error: Exception | None = None

    def activity(self, number: int) -> dict[str, Any] | None:
        terms = {"per_user": 2, "invited_only": False, "lists_version": 1}
        times = {"opens_at": datetime.min.replace(tzinfo=UTC), "closes_at": None}
        return {"number": number, **terms, **times} if number == 1 else None

    def lists(self, _number: int) -> Lists:
        return Lists(frozenset({"bot"}), frozenset())

    def record(self, _number: int, user: str) -> None:
        if self.error:
            raise self.error
        self.sold.append(user)


class AwaitedShelf(Shelf):
    """The same for tasks."""

    async def activity(self, number: int) -> Any:
        return super().activity(number)

    async def lists(self, number: int) -> Any:
        return super().lists(number)

    async def record(self, number: int, user: str) -> Any:
        super().record(number, user)


@pytest.fixture(params=["threads", "tasks"])
def seller(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Any]:
    """Returns a way to buy, the shelf and the sale."""
    cache = lone_cache(redis_url)
    counters = lone_cache(redis_url, on_error="raise")
    if request.param == "threads":
        shelf = Shelf()
        sale = Sale(cache, counters, shelf)
        yield sale.buy, shelf, sale
        return
    shelf = AwaitedShelf()
    tasks = AwaitedSale(cache, counters, shelf)
    with asyncio.Runner() as runner:
        yield lambda *asked: runner.run(tasks.buy(*asked)), shelf, tasks


def test_rules(seller: Any) -> None:
    """Lists come first, then the limit, then the stock; no unit stays behind."""
    buy, shelf, sale = seller
    sale.stock(1).reset(3)
    assert buy(1, "bot") == (Outcome.DENIED, True)
    assert buy(2, USER) == (Outcome.CLOSED, True)
    assert [buy(1, USER).outcome for _ in range(3)] == ["bought", "bought", "limit"]
    assert buy(1, "bert") == (Outcome.BOUGHT, False)
    assert buy(1, "carl") == (Outcome.SOLD_OUT, False)
    assert buy(1, "carl") == (Outcome.SOLD_OUT, True)
    assert shelf.sold == [USER, USER, "bert"]
    assert sale.bought(shelf_terms(), "carl").value() == 0


def test_a_record_that_fails(seller: Any) -> None:
    """Both units go back, and the buyer may try again."""
    buy, shelf, sale = seller
    sale.stock(1).reset(1)
    shelf.error = OSError("the disk is full")
    with pytest.raises(OSError, match="full"):
        buy(1, USER)
    assert sale.stock(1).value() == 1
    assert sale.bought(shelf_terms(), USER).value() == 0
    shelf.error = None
    assert buy(1, USER).outcome == "bought"


def test_the_stock_does_not_answer(
    seller: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The unit of the user's limit goes back; nothing is sold."""
    buy, shelf, sale = seller
    sale.stock(1).reset(1)
    assert buy(1, "bot").outcome == "denied"  # the terms are known now
    monkeypatch.setattr(sale, "stock", lambda _number: Away())
    assert buy(1, USER).outcome == "try-again"
    assert sale.bought(shelf_terms(), USER).value() == 0
    assert shelf.sold == []


class Away:
    """A counter whose server is away."""

    def take(self) -> None:
        raise L2UnavailableError("away")

    async def atake(self) -> None:
        self.take()


def shelf_terms() -> dict[str, Any]:
    terms = Shelf().activity(1)
    assert terms is not None
    return terms
