"""What type checkers make of the decorators; checked by test_typing.py, never run."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_type

from flask import Flask, make_response

from cachebridge.flask_ext import Cache, CachedResponse

cache = Cache(Flask(__name__))


@cache.memoize(timedelta(minutes=1))
def price(product: int, currency: str = "EUR") -> float:
    return float(product)


@cache.cached(timeout=60, key_prefix="all")
def everything() -> list[int]:
    return []


@cache.memoize(60)
async def weight(product: int) -> float:
    return float(product)


@cache.cached(timeout=60, key_prefix="later")
async def later() -> list[int]:
    return []


async def use() -> None:
    assert_type(await weight(1), float)
    assert_type(await later(), list[int])
    await weight.adelete_memoized()
    await cache.adelete_memoized(weight, 1)
    await Shop().stock.adelete_memoized()
    await weight("1")  # type: ignore[arg-type]


class Shop:
    @cache.memoize(60)
    def stock(self, product: int) -> int:
        return product


assert_type(price(1), float)
assert_type(price(1, currency="USD"), float)
assert_type(price.uncached(1), float)
assert_type(everything(), list[int])
assert_type(Shop().stock(3), int)
assert_type(Shop.stock(Shop(), 3), int)
assert_type(price.cache_timeout, int | timedelta | None)
price.cache_timeout = 5
price.delete_memoized()
Shop().stock.delete_memoized()
cache.delete_memoized(price, 1)
cache.delete_memoized(Shop().stock, 3)
CachedResponse(make_response("x"), timeout=5)
price("1")  # type: ignore[arg-type]
Shop().stock("1")  # type: ignore[arg-type]
price(1, colour="red")  # type: ignore[call-arg]
