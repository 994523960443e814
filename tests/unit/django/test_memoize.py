"""``@cache.memoize`` on Django's backend: the fleet's ``lru_cache``."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest
from django.core.cache import cache as proxy
from django.core.cache import caches

from cachebridge import UncacheableError
from tests.unit.django.support import hits_of
from tests.unit.flask.support import Calls, at_once

IN_A_MODULE = """
import sys, threading
from django.conf import settings
settings.configure(CACHES={"default": {
    "BACKEND": "cachebridge.django_backend.CacheBridge",
    "LOCATION": "redis://127.0.0.1:1/0",
}})
sys.addaudithook(lambda name, _: name == "socket.connect" and sys.exit("connects"))
from django.core.cache import cache, caches

@cache.memoize(ttl=60)
def price(number):
    return number

class Shop:
    @classmethod
    @caches["default"].memoize(ttl=60)
    async def offers(cls, number):
        return number

print(price.__name__, Shop.offers.__name__, threading.active_count())
"""


def test_decorating_asks_no_server():
    """A module that is imported may have memoized functions."""
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", IN_A_MODULE],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("price offers 1\n", "")


@pytest.mark.every_store
def test_threads_tasks_and_objects_of_the_alias_share_results(cache):
    """Through the proxy as well, whichever thread has decorated."""
    calls = Calls()

    @proxy.memoize(ttl=60)
    def price(number, currency="EUR"):
        return f"{number} {currency} {calls()}"

    assert at_once(lambda: price(1), threads=4) == ["1 EUR 1"] * 4
    assert hits_of(cache, lambda: price(number=1)) == 1
    info = price.cache_info()
    assert (info.hits, info.misses) == (4, 1)
    assert price.cache_delete(1)
    assert not price.cache_delete(1)
    answers = []
    other = threading.Thread(target=lambda: answers.append(price(1)))
    other.start()
    other.join()
    assert answers == [price(1)] == ["1 EUR 2"]
    assert price.cache_clear()
    assert price(1) == "1 EUR 3"


def test_methods_classmethods_and_coroutine_functions(cache):
    """Each has what ``lru_cache`` has, for its own object."""
    calls = Calls()

    class Shop:
        def __init__(self, country):
            self.country = country

        def __caching_id__(self):
            return self.country

        @cache.memoize(ttl=60)
        def price(self, number):
            return self.country, number, calls()

        @cache.memoize(ttl=60)
        async def later(self, number):
            return self.country, number, calls()

        @classmethod
        @cache.memoize(ttl=60)
        def offers(cls, number):
            return cls.__name__, number, calls()

        @staticmethod
        @cache.memoize(ttl=60)
        def vat(number):
            return number, calls()

    async def use():
        shop = Shop("NL")
        first = await shop.later(1)
        assert await Shop("NL").later(1) == first
        assert await Shop("BE").later(1) != first
        assert await shop.later.acache_delete(1)
        return first != await shop.later(1)

    shop = Shop("NL")
    assert shop.price(1) == Shop("NL").price(1) != Shop("BE").price(1)
    assert shop.price.cache_delete(1)
    assert Shop.offers(1) == shop.offers(1) == ("Shop", 1, Shop.offers(1)[2])
    assert Shop.vat(1) == shop.vat(1)
    assert asyncio.run(use())
    assert asyncio.iscoroutinefunction(Shop.later)
    with pytest.raises(UncacheableError, match="parameter 'number'"):
        Shop.vat(object())


def test_a_key_function_that_hides_keys(bridge):
    """Results are kept; all of them cannot be found again."""
    cache = bridge(KEY_FUNCTION=lambda key, *_: str(hash(key)))
    number = cache.memoize(ttl=60)(abs_of)
    assert number(-1) == 1
    assert number.cache_delete(-1)
    with pytest.raises(Exception, match=r"abs_of.* cannot be found by a pattern"):
        number.cache_clear()
    assert caches["default"].groups()[0].loads == 1


def abs_of(number):
    return abs(number)
