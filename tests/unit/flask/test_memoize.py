"""``memoize``."""

from __future__ import annotations

import gc
import operator
import threading
import time
from dataclasses import dataclass, field
from functools import partial

import pytest

from cachebridge import UncacheableError, config
from cachebridge.flask_ext import Cache, function_namespace
from tests.rig import Plain
from tests.stores import NAMES
from tests.unit.django.support import hits_of, trusted
from tests.unit.flask.support import Calls, at_once

pytestmark = pytest.mark.every_store


@pytest.fixture
def calls():
    return Calls()


def test_a_cold_call_is_computed_once(cache, calls):
    """However many threads make it together."""

    @cache.memoize(60)
    def slow(argument):
        time.sleep(0.1)  # the others come meanwhile; who comes later finds the value
        return argument, calls()

    assert at_once(lambda: slow("x")) == [("x", 1)] * 16


def test_a_hit_makes_no_round_trip(cache, calls):
    """Neither for the value nor for the versions, of functions and of methods."""

    class Shop:
        def __repr__(self):
            return "shop 1"

        @cache.memoize(60)
        def price(self, product):
            return calls()

    @cache.memoize(60)
    def double(number):
        return 2 * number

    shop = Shop()
    for _ in range(3):
        double(4)
        shop.price(7)
    before = cache.stats()
    for _ in range(20):
        assert double(4) == 8
        assert shop.price(7) == 1
    after = cache.stats()
    assert (after.l2_hits, after.misses) == (before.l2_hits, before.misses)
    assert after.messages_sent == before.messages_sent
    assert hits_of(cache, lambda: double(4)) == 2
    assert hits_of(cache, lambda: shop.price(7)) == 3


@pytest.mark.parametrize("cache_none", [True, False])
def test_none_is_told_from_a_miss(cache, calls, cache_none):
    """With cache_none a None is a hit; without it the function runs each time."""

    @cache.memoize(60, cache_none=cache_none)
    def nothing(argument):
        calls()

    for _ in range(3):
        assert nothing(1) is None
    assert calls.count == (1 if cache_none else 3)


def test_equal_calls_have_one_entry(cache, calls):
    """By position, by name, by default; values of other types are other calls."""

    @cache.memoize(60)
    def f(a, b=2, *more, c=3, **rest):
        return calls()

    assert f(1) == f(a=1) == f(1, 2) == f(b=2, a=1) == 1
    assert f(1, c=3, d=4) == f(1, 2, d=4, c=3) == 2
    different = [f(True), f(1.0), f("1"), f(1, None), f(1, 2, 3), f(1, c=4)]
    assert different == [3, 4, 5, 6, 7, 8]


def test_a_default_that_is_given_is_the_default(cache, calls):
    """Also that of an argument that only a name can give."""

    @cache.memoize(60)
    def f(a, b=(1, 2), *, c=frozenset("xyz"), d=None):
        return calls()

    assert f(1) == f(1, (1, 2), c=frozenset("zyx"), d=None) == f(1, d=None) == 1
    assert f(1, d=0) == f(1, d=0, c=frozenset("xyz")) == 2
    assert f(1, c=None) == 3


class Times:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, number):
        return self.factor * number

    def __repr__(self):
        return f"Times({self.factor})"


def test_functions_of_one_name_have_entries_of_their_own(cache):
    """Lambdas, what a function makes with different values, and other callables."""

    def multiplier(factor):
        @cache.memoize(60)
        def multiply(number):
            return factor * number

        return multiply

    functions = [multiplier(2), multiplier(3)]
    functions += [cache.memoize(60)(f) for f in (lambda n: 4 * n, lambda n: 5 * n)]
    functions += [cache.memoize(60)(partial(operator.mul, n)) for n in (6, 7)]
    functions += [cache.memoize(60)(Times(n)) for n in (8, 9)]
    functions += [cache.memoize(60)(Times(n).__call__) for n in (10, 11)]
    for _ in range(2):
        assert [f(1) for f in functions] == list(range(2, 12))


def test_closures_are_told_by_content(cache):
    """Containers, functions, lambdas and keyword defaults tell functions apart."""

    def reader(held):
        def read():
            return held() if callable(held) else held[0]

        return cache.memoize(60)(read)

    def with_default(number):
        def read(*, held=number):
            return held

        return cache.memoize(60)(read)

    def three():
        return 3

    def four():
        return 4

    functions = [reader(held) for held in ([1], (2,), three, four)]
    functions += [reader(lambda: 5), reader(lambda: 6)]
    functions += [with_default(7), with_default(8)]
    for _ in range(2):
        assert [f() for f in functions] == list(range(1, 9))


def test_what_only_identity_tells_is_part_of_a_second_functions_name(
    cache, calls, caplog, monkeypatch
):
    """The first one's entries are found, and deleted, by other processes, too."""
    monkeypatch.setattr(config, "_warned", set())

    def reader(held):
        def read():
            return held

        return cache.memoize(60)(lambda: (id(read()), calls()))

    held, other = Bare(), Bare()
    first, second, third = reader(held), reader(other), reader(held)
    for _ in range(2):
        assert first() == third() == (id(held), 1)
        assert second() == (id(other), 2)
    assert "token-" not in first.__cachebridge__._variant
    assert "only objects in their closures tell apart" in caplog.text


def test_names_that_keys_cannot_spell_are_told_apart(cache):
    """Keys leave out accents and dashes."""
    functions = []
    for name in ("größe", "grüße"):
        found = {"__name__": "shop"}
        exec(f"def {name}(): return {name!r}", found)
        functions.append(cache.memoize(60)(found[name]))
    assert [f() for f in functions] == ["größe", "grüße"]


def test_owners_are_told_by_all_that_tells_them(cache):
    """By their class, if that inherits the method, and by fields that do not show."""

    @dataclass
    class Shop:
        name: str
        rate: int = field(default=1, repr=False)

        @cache.memoize(60)
        def price(self, product):
            return self.rate * product

    class Outlet(Shop):
        def __repr__(self):
            return "Shop('a')"

    class Base:
        rate = 1

        def __repr__(self):
            return "base"

        @cache.memoize(60)
        def price(self, product):
            return self.rate * product

    class Heir(Base):
        rate = 4

    owners = [Shop("a"), Shop("a", 2), Outlet("a", 3), Heir(), Base()]
    for _ in range(2):
        assert [owner.price(1) for owner in owners] == [1, 2, 3, 4, 1]
    cache.delete_memoized(Shop("a", 2).price)
    assert [owner.price(1) for owner in owners] == [1, 2, 3, 4, 1]


def test_what_reading_uses_up_is_refused(cache, calls):
    """Before the function runs: the second call would get what the first has read."""

    @cache.memoize(60)
    def total(numbers):
        calls()
        return sum(numbers)

    with pytest.raises(UncacheableError, match="Pass a list"):
        total(each for each in (1, 2))
    assert calls.count == 0
    assert total([1, 2]) == 3


def test_positional_only_arguments_count(cache):
    """Flask-Caching forgets them when others come by name."""

    @cache.memoize(60)
    def f(a, /, b):
        return a, b

    assert f(1, b=2) == (1, 2)
    assert f(5, b=2) == (5, 2)
    assert f(5, 2) == (5, 2)


def test_an_invalid_call_is_an_error_also_when_a_like_one_is_kept(cache):
    """An argument that is missing or given twice never finds a valid call's entry."""

    @cache.memoize(60)
    def f(a, b):
        return a, b

    assert f(1, None) == (1, None)
    for args, kwargs in [((1,), {}), ((1, 2, 3), {}), ((1, 5), {"b": None})]:
        with pytest.raises(TypeError, match="argument"):
            f(*args, **kwargs)


def test_a_key_that_fails_leaves_the_call_uncached(app, cache, calls, caplog):
    """As with Flask-Caching: logged, and raised in debug mode."""

    def fails(name):
        raise KeyError(name)

    renamed = cache.memoize(60, make_name=fails)(lambda: [calls()])

    @cache.memoize(60)
    def f(cls):
        return calls()

    assert [renamed(), renamed()] == [[1], [2]]
    assert [f("no class"), f("no class")] == [3, 4]
    assert "no key" in caplog.text
    app.debug = True
    with pytest.raises(KeyError):
        renamed()


class Bare:
    """An object that only its address identifies."""


class Slotted:
    __slots__ = ()


@pytest.mark.only_on_redis(NAMES)
def test_models_that_show_one_title_have_entries_of_their_own(cache, calls):
    """A method's object is told by its ``pk`` as well; each can be deleted alone."""

    class Article:
        def __init__(self, pk):
            self.pk = pk

        def __repr__(self):
            return "<Article: news>"

        @cache.memoize(60)
        def price(self):
            return self.pk, calls()

    first, second = Article(1), Article(2)
    assert (first.price(), second.price()) == ((1, 1), (2, 2))
    assert Article(1).price() == (1, 1)
    cache.delete_memoized(first.price)
    assert (first.price(), second.price()) == ((1, 3), (2, 2))


def test_no_object_gets_the_entry_of_a_dead_one(cache, calls):
    """Addresses are used again, tokens are not."""

    @cache.memoize(60)
    def f(thing):
        return calls()

    class Owner:
        @cache.memoize(60)
        def method(self):
            return calls()

    addresses, results = set(), []
    for _ in range(50):
        thing, owner = Bare(), Owner()
        addresses.update((id(thing), id(owner)))
        results += [
            f(thing),
            f(thing),
            owner.method(),
            f([thing]),
            f(x := {"a": thing}),
        ]
        assert results[-5] == results[-4]
        assert f(x) == results[-1]
        del thing, owner, x
        gc.collect(1)  # all that is new; the whole heap takes half a second
    assert len(addresses) < 100, "no address was used again: this proves nothing"
    assert len(set(results)) == 200


def test_what_nothing_identifies_is_refused_each_time(cache, calls):
    """The same clear error, before the function runs."""

    @cache.memoize(60)
    def f(thing):
        return calls()

    knot = [Bare()]
    knot.append(knot)
    for thing in (Slotted(), [Slotted()], knot):
        for _ in range(2):
            with pytest.raises(UncacheableError, match="cannot be part of a key"):
                f(thing)
    assert calls.count == 0
    assert f("at 0x12 sharp, not <object at 0x7f>") == 1


@pytest.mark.parametrize(
    "argument",
    [threading.Lock(), lambda: 1, Bare()],
    ids=["lock", "lambda", "bare"],  # the same in every process
)
def test_unpicklable_arguments(cache, calls, argument):
    """Identity is their name: a hit for the same object, for no other."""

    @cache.memoize(60)
    def f(thing):
        return calls()

    assert f(argument) == f(argument) == 1
    assert f(type(argument)) == 2


def test_an_unserializable_result_is_the_same_error_each_time(cache, calls):
    """It says what cannot be kept; the function has run."""

    @cache.memoize(60)
    def f(number):
        calls()
        return threading.Lock()

    for number in (1, 2, 3):
        with pytest.raises(UncacheableError, match=r"_thread\.lock cannot be serial"):
            f(1)
        assert calls.count == number


def test_deleting(cache, calls):
    """One call, one object, or everything; the attribute does the last."""

    class Adder:
        def __init__(self, name):
            self.name = name

        def __caching_id__(self):
            return self.name

        @cache.memoize(60)
        def add(self, number):
            return calls()

    first, second = Adder("first"), Adder("second")

    def results():
        return [first.add(1), first.add(2), second.add(1)]

    assert results() == results() == [1, 2, 3]
    cache.delete_memoized(first.add, 1)
    assert results() == [4, 2, 3]
    cache.delete_memoized(first.add)
    assert results() == [5, 6, 3]
    cache.delete_memoized(Adder.add)
    assert results() == [7, 8, 9]
    first.add.delete_memoized()
    assert results() == [10, 11, 12]
    cache.delete_memoized_verhash(Adder.add)
    assert results() == [13, 14, 15]


def test_deleting_leaves_no_version(cache, calls):
    """The version goes, and the next call makes another: nothing stays for ever."""
    f = cache.memoize(60)(lambda: calls())  # noqa: PLW0108 a name of its own
    f()
    version = f"{function_namespace(f)[0]}_memver"
    before = cache.get(version)
    cache.delete_memoized(f)
    assert cache.get(version) is None
    f()
    assert cache.get(version) not in {None, before}


def test_decorators_make_one_step(app, calls):
    """The decorators do not call methods that a subclass overrides."""

    class Recording(Cache):
        def get(self, key):
            raise AssertionError(key)

        set = get

    cache = Recording(app)
    assert cache.memoize(60)(lambda: [calls()])() == [1]
    assert cache.cached(60, key_prefix="k")(lambda: [calls()])() == [2]


def test_deleting_the_entries_of_all_objects_that_are_one(cache, calls):
    """With self ignored, deleting by any object deletes: there is one version."""

    class Adder:
        @cache.memoize(60, args_to_ignore=["self"])
        def add(self, number):
            return calls()

    assert Adder().add(1) == Adder().add(1) == 1
    cache.delete_memoized(Adder().add)
    assert Adder().add(1) == 2


def test_a_deletion_reaches_other_processes_entries(place, app, calls):
    """A cache of an engine of its own, as another process has, computes anew."""
    here = trusted(Cache(app))
    f = here.memoize(60)(lambda number: calls())
    assert f(1) == 1
    there = Cache(app, config=place.flask_config(L1_MAX_ENTRIES=10_000))
    g = there.memoize(60)(f.uncached)
    assert g(1) == 1
    there.delete_memoized(g)
    assert g(1) == 2
    assert f(1) == 2


def test_a_version_outlives_its_entries(cache, calls):
    """Its timeout is renewed with the entries', but not at every one."""

    @cache.memoize(64)
    def f(number):
        return calls()

    f(0)
    messages = cache.stats().messages_sent
    for number in range(1, 20):
        written = time.monotonic()
        f(number)
    sent = cache.stats().messages_sent - messages
    assert sent <= 19 + 1, "a message for each entry, hardly any for the version"
    version = f"{f.__module__}.test_a_version_outlives_its_entries.locals.f_memver"
    left_ms = Plain(cache.cache._engine.l2).get(f"flask_cache_{version}")[1]
    entry_left_ms = 64_000 - 1000 * (time.monotonic() - written)
    assert left_ms > entry_left_ms


def test_processes_agree_on_a_new_version(app, calls):
    """The second process uses the version of the first: one computation."""
    caches = [Cache(app) for _ in range(4)]

    def slow(number):
        time.sleep(0.05)  # the others come meanwhile; who comes later finds the value
        return calls()

    functions = [cache.memoize(60)(slow) for cache in caches]
    turns = iter(range(16))
    assert set(at_once(lambda: functions[next(turns) % 4](1))) == {1}
    assert calls.count == 1


def test_outside_of_any_app_context(cache, calls):
    """Flask-Caching allows it, with the app of init_app."""
    assert cache.memoize(60)(lambda: [calls()])()[0] == 1


def test_before_init_app():
    """The error says what is missing."""
    with pytest.raises(RuntimeError, match="init_app"):
        Cache().get("k")


def test_a_function_that_calls_itself(cache):
    """Three hundred levels fit Python's default stack, with the test's own frames."""

    @cache.memoize(60)
    def down_from(number):
        return 0 if number == 0 else 1 + down_from(number - 1)

    assert down_from(300) == 300
