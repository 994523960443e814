"""``memoize`` of plain caches: results by the arguments of the call."""

from __future__ import annotations

import asyncio
import copy
import inspect
import math
from dataclasses import dataclass
from functools import partial

import pytest

from cachebridge import ABSENT, Cache, ConfigError, UncacheableError
from cachebridge.groups.entries import VIEW_BYTES
from tests.rig import is_idle
from tests.unit.flask.support import Calls


def test_a_function(cache):
    """Equal calls have one result, however the arguments are passed."""
    calls = Calls()

    @cache.memoize(ttl=60)
    def add(a, b=2, *more, c=3):
        """Add."""
        return [a, b, more, c, calls()]

    first = add(1)
    assert first == add(1, 2) == add(a=1, b=2) == add(1, c=3)
    assert add("1") != first
    assert add(1, 2, 3) != add(1, 3, 2)
    assert add.__name__ == "add"
    assert add.__doc__ == "Add."
    assert str(inspect.signature(add)) == "(a, b=2, *more, c=3)"
    assert add.uncached(1)[-1] == calls.count
    assert is_idle(cache)


def test_invalidate_and_refresh(cache):
    """They take the arguments of a call."""
    calls = Calls()

    @cache.memoize()
    def number(_arg, scale=1):
        return calls() * scale

    assert number(1) == number(1) == 1
    assert number.invalidate(1)
    assert not number.invalidate(1, scale=1)
    assert number(1) == 2
    assert number.refresh(_arg=1) == 3
    assert number(1) == 3
    stats = number.stats()
    assert (stats.hits, stats.loads, stats.failures) == (2, 3, 0)
    assert [each.name for each in cache.groups()] == [stats.name]


@pytest.mark.parametrize("method", ["__call__", "invalidate", "refresh"])
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2), {}), ((1,), {"a": 1}), ((1,), {"b": 1})]
)
def test_wrong_calls(memory, method, args, kwargs):
    """They raise TypeError, as the function does."""

    @memory.memoize()
    def one(a):
        raise AssertionError

    with pytest.raises(TypeError):
        getattr(one, method)(*args, **kwargs)


def test_none_and_absent(cache):
    """None is kept; ABSENT is kept for NEGATIVE_TTL, and is None for the caller."""
    calls = Calls()

    @cache.memoize()
    def nothing(what):
        calls()
        return what

    assert nothing(None) is nothing(None) is None
    assert calls.count == 1

    @cache.memoize("absent")
    def absent():
        calls()
        return ABSENT

    assert absent() is absent() is absent.refresh() is None
    assert calls.count == 3


def test_an_error(cache):
    """It comes out and is not kept; StopIteration is one like any other."""

    @cache.memoize()
    def failing(error):
        raise error("x")

    for error in (RuntimeError, StopIteration, KeyError):
        with pytest.raises(error):
            failing(error)
    assert failing.stats().failures == 3


def test_a_coroutine_function(cache):
    """It stays one; its calls are made once and awaited by all."""
    calls = Calls()

    @cache.memoize()
    async def number(arg):
        await asyncio.sleep(0)
        return [arg, calls()]

    class Site:
        @cache.memoize("site.number")
        async def number(self, arg):
            return [arg, calls()]

    site = Site()
    assert asyncio.iscoroutinefunction(number)
    assert asyncio.iscoroutinefunction(site.number)

    async def main():
        assert await asyncio.gather(*[number(1) for _ in range(9)]) == [[1, 1]] * 9
        assert await number.ainvalidate(1)
        assert await number(1) == [1, 2]
        assert await number.arefresh(1) == [1, 3]
        assert await site.number(1) == await site.number(1) == [1, 4]
        assert await site.number.ainvalidate(1)
        assert await site.number.arefresh(1) == [1, 5]

    asyncio.run(main())
    with pytest.raises(TypeError, match="await"):
        number.refresh(1)


def test_views(cache):
    """Large bytes are a read-only view, on request."""

    @cache.memoize(views=True)
    def body(size):
        return b"x" * size

    for _ in range(2):
        assert body(VIEW_BYTES).readonly
        assert type(body(1)) is bytes


# -- methods ---------------------------------------------------------------------------


def test_a_method_of_an_object_without_state(cache):
    """All such objects share the results; an inheriting class has its own."""
    calls = Calls()

    class Shop:
        @cache.memoize()
        def price(self, number):
            return [number, calls()]

    class Outlet(Shop):
        pass

    shop = Shop()
    assert shop.price(1) == Shop().price(1) == Shop.price(shop, 1) == [1, 1]
    assert Outlet().price(1) == [1, 2]
    assert shop.price.invalidate(1)
    assert shop.price(1) == [1, 3]
    assert Outlet().price(1) == [1, 2]
    assert shop.price.refresh(1) == [1, 4]
    assert shop.price.uncached(1) == [1, 5]
    assert Shop.price.stats() == shop.price.stats()


def identified(cache, calls):
    """Return classes whose objects have a stable identity, each in another way."""

    class ById:
        def __init__(self, name):
            self.name = name

        def __caching_id__(self):
            return self.name

        @cache.memoize("by_id")
        def number(self):
            return calls()

    class ByRepr:
        def __init__(self, name):
            self.name = name

        def __repr__(self):
            return f"<ByRepr {self.name}>"

        @cache.memoize("by_repr")
        def number(self):
            return calls()

    @dataclass
    class ByFields:
        name: str

        @cache.memoize("by_fields")
        def number(self):
            return calls()

    return [ById, ByRepr, ByFields]


@pytest.mark.parametrize("which", range(3))
def test_a_method_of_an_object_with_an_identity(cache, which):
    """Equal objects share the results, others do not."""
    kind = identified(cache, Calls())[which]
    assert kind("a").number() == kind("a").number()
    assert kind("a").number() != kind("b").number()
    assert kind("b").number.invalidate()
    assert not kind("b").number.invalidate()
    assert kind("a").number.invalidate()


def test_a_method_of_an_object_that_nothing_tells(memory):
    """It is refused before the method runs, unless the object is left out."""

    class Tenant:
        def __init__(self, name):
            self.name = name

        @memory.memoize()
        def secret(self):
            raise AssertionError

        @memory.memoize(ignore=["self"])
        def public(self, number):
            return number

    with pytest.raises(
        UncacheableError, match=r"secret\(\).*Tenant.*ignore=\['self'\]"
    ):
        Tenant("a").secret()
    assert Tenant("a").public(1) == Tenant("b").public(1) == 1
    assert Tenant.public.stats().loads == 1


def test_other_kinds_of_methods(cache):
    """Class methods have entries for each class; static methods and properties work."""
    calls = Calls()

    class Shop:
        @classmethod
        @cache.memoize()
        def of_class(cls):
            return [cls.__name__, calls()]

        @staticmethod
        @cache.memoize()
        def static(number):
            return [number, calls()]

        @property
        @cache.memoize()
        def total(self):
            return calls()

    class Outlet(Shop):
        pass

    assert Shop.of_class() == Shop().of_class() == ["Shop", 1]
    assert Outlet.of_class() == ["Outlet", 2]
    assert Shop.static(1) == Shop().static(1) == [1, 3]
    assert Shop.static.invalidate(1)
    assert Shop().total == Shop().total == 4


# -- arguments and names ---------------------------------------------------------------


def test_arguments_without_identity(memory):
    """They are refused before the function runs, unless they are left out."""

    @memory.memoize()
    def refused(what):
        raise AssertionError

    @memory.memoize(ignore=("session",))
    def kept(number, session):
        return number

    for what in (object(), [object()], lambda: 1, iter("ab")):
        with pytest.raises(UncacheableError, match=r"refused\(\), parameter 'what'"):
            refused(what)
    assert kept(1, object()) == kept(1, session=object()) == 1
    assert kept.stats().loads == 1


def test_a_method_whose_object_has_another_name(memory):
    """The object is an argument like any other: the error names its parameter."""

    class Shop:
        @memory.memoize(ignore=["number"])
        def price(this, number, rest=()):  # noqa: N805 that is what is tested
            return number

    with pytest.raises(UncacheableError, match=r"Shop.price\(\), parameter 'this'"):
        Shop().price(object())


def test_functions_of_one_name(memory):
    """Lambdas and functions in functions are told by code and closure."""
    double, triple = (lambda a: a * 2), (lambda a: a * 3)
    assert memory.memoize()(double)(1) == 2
    assert memory.memoize()(triple)(1) == 3

    def times(factor):
        @memory.memoize()
        def by(number):
            return number * factor

        return by

    assert [times(factor)(5) for factor in (2, 3, 2)] == [10, 15, 10]


def test_names(memory):
    """What has no name needs one; a name belongs to one function."""
    named = memory.memoize("root")(math.sqrt)
    assert named(4.0) == named(4.0) == 2.0
    assert named.stats() in memory.groups()
    with pytest.raises(ConfigError, match=r"'root'.*math\.sqrt.*math\.exp"):
        memory.memoize("root")(math.exp)
    with pytest.raises(ValueError, match="give a name"):
        memory.memoize()(partial(pow, 2))
    assert memory.memoize("power")(partial(pow, 2))(3) == 8

    def odd():
        """Have a name that cannot be in a key."""

    odd.__qualname__ = "größe"
    with pytest.raises(ValueError, match="another name="):
        memory.memoize()(odd)


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize(
    ("decorate", "error", "text"),
    [
        (lambda cache: cache.memoize(math.sqrt), TypeError, "parentheses"),
        (lambda cache: cache.memoize()(1), TypeError, "no function"),
        (lambda cache: cache.memoize()(Calls), TypeError, "no function"),
        (lambda cache: cache.memoize()(property(len)), TypeError, "@property above"),
        (lambda cache: cache.memoize()(staticmethod(len)), TypeError, "above"),
        (lambda cache: cache.memoize()(generator), TypeError, "generator"),
        (lambda cache: cache.memoize()(async_generator), TypeError, "generator"),
        (lambda cache: cache.memoize("a b"), ValueError, "name must be"),
        (lambda cache: cache.memoize(b"a"), TypeError, "name must be"),
        (lambda cache: cache.memoize(60), TypeError, "a keyword: ttl=60, not 60"),
        (lambda cache: cache.memoize(timeout=60), TypeError, "'timeout'.*ttl=60"),
        (lambda cache: cache.memoize(ignored=["a"]), TypeError, "'ignored'.*'ignore'"),
        (lambda cache: cache.memoize(ignore="a")(len), TypeError, "ignore must be"),
        (lambda cache: cache.memoize(ignore=["a"])(len), ValueError, "'a'.*obj"),
        (lambda cache: cache.memoize(ttl="x")(len), TypeError, "x"),
        (lambda cache: cache.memoize(stale_ttl=-1)(len), ConfigError, "(?i)stale_ttl"),
    ],
)
def test_what_is_unusable(decorate, error, text):
    """The error says what is wrong, when the function is decorated."""
    with pytest.raises(error, match=text):
        decorate(Cache("memory://"))


class Database:
    """Only its identity tells it from others."""

    def __init__(self, name):
        self.name = name


class Slotted:
    """Not even that: it cannot be weakly referenced."""

    __slots__ = ("name",)
    __init__ = Database.__init__


def priced_by(cache, database):
    @cache.memoize(ttl=60)
    def price(number):
        return f"{database.name}:{number}"

    return price


@pytest.mark.parametrize("kind", [Database, Slotted])
def test_objects_in_closures(cache, kind):
    """Functions that only such objects tell apart share nothing."""
    one, two = (priced_by(cache, kind(name)) for name in ("a", "b"))
    for _ in range(2):
        assert (one(1), two(1)) == ("a:1", "b:1")


def test_bound_methods_compare_and_copy(cache):
    """As those of Python do."""

    class Shop:
        @cache.memoize(ttl=60)
        def price(self, number):
            return number

    shop = Shop()
    assert shop.price == shop.price
    assert hash(shop.price) == hash(shop.price)
    assert shop.price != Shop().price
    assert copy.copy(shop.price)(1) == 1


def test_the_names_of_lru_cache(cache):
    """A function that was given to ``functools.lru_cache`` keeps its callers."""
    calls = Calls()

    class Shop:
        def __init__(self, name):
            self.name = name

        def __caching_id__(self):
            return self.name

        @cache.memoize(ttl=60)
        def price(self, number):
            return number, calls()

    shop, other = Shop("a"), Shop("b")
    assert (shop.price(1), shop.price(1), other.price(1)) == ((1, 1), (1, 1), (1, 2))
    assert shop.price.cache_info() == (1, 2, None, None)
    assert shop.price.cache_info().hits == 1
    assert shop.price.__wrapped__ is shop.price.__func__.uncached
    assert shop.price.cache_delete(1)
    assert (shop.price(1), other.price(1)) == ((1, 3), (1, 2))
    assert shop.price.cache_clear()
    assert (shop.price(1), other.price(1)) == ((1, 4), (1, 5))
    assert asyncio.run(shop.price.acache_delete(1))
    assert asyncio.run(Shop.price.acache_clear())
    assert (shop.price(1), other.price(1)) == ((1, 6), (1, 7))
