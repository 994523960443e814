"""Uses of groups as type checkers see them; read by test_typing.py, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from cachebridge import BatchedCounter, Cache, Counter, Group

if TYPE_CHECKING:
    from cachebridge.django_backend import CacheBridge

cache = Cache("memory://")


def load(number: int) -> str:
    return str(number)


async def load_later(number: int) -> str:
    return str(number)


def load_many(numbers: list[int]) -> dict[int, str]:
    return dict.fromkeys(numbers, "")


async def load_many_later(numbers: list[int]) -> dict[int, str]:
    return dict.fromkeys(numbers, "")


names: Group[int, str] = cache.group("names", load)
stock: Counter = cache.counter("stock")
views: BatchedCounter = cache.batched_counter("views")


class Shop:
    @cache.memoize(ttl=60)
    def price(self, number: int, currency: str = "EUR") -> float:
        return float(number)

    @cache.memoize()
    async def later(self, number: int) -> float:
        return float(number)


async def use(backend: CacheBridge) -> None:
    for group in (
        cache.group("a", load),
        cache.group("b", load_later, ttl=None),
        cache.group("c", load_many=load_many, views=True),
        backend.group("d", load_many=load_many_later, stale_ttl=3),
        backend.group("e", load_later, load_many=load_many_later),
    ):
        assert_type(group.get_many([1]), dict[int, str])
        assert_type(await group.aget_many([1]), dict[int, str])
        assert_type(group.invalidate(1), bool)
        group.get("1")  # type: ignore[arg-type]
    cache.group("f")  # type: ignore[call-overload]
    cache.group("g", load, ttl="x")  # type: ignore[call-overload]

    shop = Shop()
    assert_type(shop.price(1), float)
    assert_type(shop.price(1, currency="USD"), float)
    assert_type(shop.price.refresh(1), float)
    assert_type(shop.price.invalidate(1), bool)
    assert_type(shop.price.cache_delete(1), bool)
    assert_type(Shop.price(shop, 1), float)
    assert_type(await shop.later(1), float)
    shop.price("1")  # type: ignore[arg-type]
    shop.price.invalidate("1")  # type: ignore[arg-type]
