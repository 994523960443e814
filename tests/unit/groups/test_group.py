"""Groups: values by argument, each loaded once."""

from __future__ import annotations

import asyncio
import datetime as dt
import subprocess
import sys
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import pytest

from cachebridge import (
    ABSENT,
    Cache,
    ConfigError,
    EntryNotFoundError,
    L2Error,
    Loaded,
    UncacheableError,
)
from cachebridge.groups.entries import MOST_AT_ONCE, VIEW_BYTES
from tests.children import Child
from tests.rig import is_idle, l2_of, let_expire, listening, lone_cache
from tests.sides import SIDES, TaskFace
from tests.unit.groups.conftest import Products


@pytest.fixture(params=SIDES)
def side(request):
    """Return what makes a group be used by threads, or by tasks."""
    return TaskFace if request.param == "tasks" else lambda group: group


def counted(cache, name):
    return {
        each.name: (each.hits, each.loads, each.failures) for each in cache.groups()
    }[name]


# -- one argument ----------------------------------------------------------------------


def test_get(cache, products, side):
    """The first call loads, the others are hits; the statistics say so."""
    group = cache.group("product", products.load)
    face = side(group)
    assert face.get(42) == face.get(42) == {"number": 42}
    assert face.get(43) == {"number": 43}
    with cache.bypass_l1():
        assert face.get(43) == {"number": 43}
    assert products.asked == [[42], [43]]
    assert counted(cache, "product") == (2, 2, 0)
    assert group.stats().name == group.name == "product"
    assert is_idle(cache)


def test_other_caches_find_the_value(redis_url, products):
    """A group of that name in another cache object has the same entries."""
    one, two = Cache(redis_url), Cache(redis_url)
    assert one.group("product", products.load).get(1) == {"number": 1}
    assert two.group("product", products.load).get(1) == {"number": 1}
    assert products.asked == [[1]]


def test_absent(cache, side):
    """A loader that says ABSENT is asked once; callers get their default."""
    products = Products(absent=[7])
    group = side(cache.group("product", load_many=products.load_many))
    assert group.get(7) is None
    assert group.get(7, "none") == "none"
    assert group.get_many([7]) == {}
    assert products.asked == [[7]]


def test_invalidate_and_refresh(cache, side):
    """The next call loads; a refresh loads at once and returns what is new."""
    stock = {1: "old"}
    group = side(cache.group("stock", stock.get))
    assert group.get(1) == "old"
    stock[1] = "new"
    assert group.get(1) == "old"
    assert group.invalidate(1)
    assert not group.invalidate(1)
    assert group.get(1) == "new"
    stock[1] = "newest"
    assert group.refresh(1) == "newest"
    assert group.get(1) == "newest"
    assert counted(cache, "stock") == (2, 3, 0)


def test_subscripts(cache):
    """``group[arg]`` loads; ``in`` does not; ``del`` invalidates."""
    products = Products(absent=[7])
    group = cache.group("product", load_many=products.load_many)
    assert 1 not in group
    assert group[1] == {"number": 1}
    assert 1 in group
    with pytest.raises(EntryNotFoundError, match="7"):
        group[7]
    del group[1]
    assert 1 not in group
    with pytest.raises(EntryNotFoundError):
        del group[1]


@pytest.mark.parametrize("error", [RuntimeError("database"), StopIteration("end")])
def test_a_loader_that_raises(cache, error):
    """The caller gets the exception, nothing is kept, and the failure is counted."""

    def fail(_arg):
        raise error

    group = cache.group("failing", fail, load_many=fail)
    with pytest.raises(type(error)):
        group.get(1)
    with pytest.raises(type(error)):
        group.get_many([1, 2])
    assert counted(cache, "failing") == (0, 3, 3)
    assert is_idle(cache)


def test_ttl(cache):
    """A group has a TTL of its own, else the cache's; a value may override it."""

    def ttl_of(key):
        return l2_of(cache).get(f"{cache._prefix}group:{key}")[1]

    cache.group("default", load_many=lambda args: dict.fromkeys(args, 1)).get_many([1])
    cache.group("short", lambda arg: arg, ttl=50).get(1)
    cache.group("endless", lambda arg: arg, ttl=None).get(1)
    cache.group("own", lambda _arg: Loaded(1, ttl_ms=70_000)).get(1)
    assert 290_000 < ttl_of("default:1") <= 300_000
    assert 45_000 < ttl_of("short:1") <= 50_000
    assert ttl_of("endless:1") == -1
    assert 65_000 < ttl_of("own:1") <= 70_000


# -- several arguments -----------------------------------------------------------------


def test_get_many(cache, products, side):
    """One batch for what is missing; what is there is a hit."""
    group = side(cache.group("product", products.load, load_many=products.load_many))
    group.get(2)
    found = group.get_many([1, 2, 3, 1])
    assert found == {each: {"number": each} for each in (1, 2, 3)}
    assert group.get_many([3, 1]) == {3: {"number": 3}, 1: {"number": 1}}
    assert products.asked == [[2], [1, 3]]
    assert counted(cache, "product") == (3, 3, 0)
    assert group.get_many([]) == {}


def test_get_many_without_load_many(cache, products, side):
    """Each missing one is loaded alone."""
    group = side(cache.group("product", products.load))
    assert group.get_many([1, 2]) == {1: {"number": 1}, 2: {"number": 2}}
    assert group.get_many([1, 2]) == {1: {"number": 1}, 2: {"number": 2}}
    assert products.asked == [[1], [2]]


def test_large_batches_are_divided(memory, products):
    """Each call of ``load_many`` gets a bounded number, and nothing twice."""
    group = memory.group("product", load_many=products.load_many)
    wanted = list(range(MOST_AT_ONCE + 10))
    assert list(group.get_many(wanted)) == wanted
    assert [len(each) for each in products.asked] == [MOST_AT_ONCE, 10]
    assert products.each == wanted


def test_missing_values_are_absent(cache, side):
    """What ``load_many`` leaves out does not exist, and is remembered so."""
    products = Products(absent=[2])
    group = side(cache.group("product", load_many=products.load_many))
    assert group.get_many([1, 2, 3]) == {1: {"number": 1}, 3: {"number": 3}}
    assert group.get_many([1, 2, 3]) == {1: {"number": 1}, 3: {"number": 3}}
    assert group.get(2, "none") == "none"
    assert products.asked == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("returned", "error", "text"),
    [
        ({"1": "a"}, ValueError, r"'product'.*load_many.*'1'.*not given"),
        ({1: "a", 9: "b"}, ValueError, r"load_many.*9.*not given"),
        (["a"], TypeError, r"'product'.*load_many must return a dict.*list"),
        (None, TypeError, r"load_many must return a dict.*NoneType"),
    ],
)
def test_what_load_many_must_not_return(cache, returned, error, text):
    """Values for other arguments, or no dict, raise; nothing is kept."""
    group = cache.group("product", load_many=lambda _args: returned)
    with pytest.raises(error, match=text):
        group.get_many([1, 2])
    with pytest.raises(error, match=text):
        group.get(1)
    assert 1 not in group
    assert is_idle(cache)


def test_one_value_that_cannot_be_stored(cache):
    """Its error is raised; the others are kept."""
    values = {1: "a", 2: lambda: None, 3: "c"}
    group = cache.group(
        "odd", load_many=lambda args: {arg: values[arg] for arg in args}
    )
    with pytest.raises(
        (TypeError, AttributeError, Exception), match="cannot be stored"
    ):
        group.get_many([1, 2, 3])
    assert [arg in group for arg in (1, 2, 3)] == [True, False, True]
    assert is_idle(cache)


def test_a_value_for_one_caller(cache):
    """``Loaded(store=False)`` is returned and not kept."""
    group = cache.group(
        "own", load_many=lambda args: {arg: Loaded(arg, store=False) for arg in args}
    )
    assert group.get_many([1, 2]) == {1: 1, 2: 2}
    assert 1 not in group


def test_stale_values_after_an_error(cache):
    """With STALE_IF_ERROR a batch that fails returns the old values."""
    values = {1: "a", 2: "b"}

    def load_many(args):
        return {arg: values[arg] for arg in args}

    group = cache.group("prices", load_many=load_many, ttl=1, stale_if_error=600)
    assert group.get_many([1, 2]) == {1: "a", 2: "b"}
    values.clear()
    let_expire(1)  # the copies last for minutes
    assert group.get_many([1, 2]) == {1: "a", 2: "b"}
    assert counted(cache, "prices")[2] >= 2


# -- arguments -------------------------------------------------------------------------


@dataclass(frozen=True)
class Size:
    width: int
    height: int


ARGUMENTS = [
    1, "1", 1.0, True, b"1", None, "None", (1,), (1, 2), ("1", 2), (1, (2,)), ((1, 2),),
    "(1, 2)", "", " ", ":", "a:b", "a\nb", "é", "\ud800", "x" * 500, "x" * 501, -1,
    -1.5, Decimal(1), Decimal("1.0"), dt.date(2026, 1, 2), UUID(int=1), Size(1, 2),
    Size(2, 1), frozenset({1, 2}), "frozenset({1, 2})", float("inf"), 10**40, "#",
    " a", "%20a", "a%", "a%25",
]  # fmt: skip


def test_no_two_arguments_collide(cache):
    """Each argument has a value of its own, whatever its type looks like as text."""
    group = cache.group("echo", lambda arg: [repr(arg)])
    for _ in range(2):
        for arg in ARGUMENTS:
            assert group.get(arg) == [repr(arg)]
    assert counted(cache, "echo")[1] == len(ARGUMENTS)


def test_no_two_groups_collide(memory):
    """Names are no part of arguments; plain keys are apart."""
    one = memory.group("a", lambda arg: ("a", arg))
    two = memory.group("a.b", lambda arg: ("a.b", arg))
    assert one.get("b:1") == ("a", "b:1")
    assert two.get("1") == ("a.b", "1")
    memory.set("a:1", "plain")
    assert one.get("1") == ("a", "1")


def test_lists_and_dicts_are_arguments(cache):
    """Equal content is one entry, whatever the order of a dict."""
    group = cache.group("search", sorted)
    assert group.get({"b": 1, "a": 2}) == group.get({"a": 2, "b": 1}) == ["a", "b"]
    assert group.get([2, 1]) == [1, 2]
    assert counted(cache, "search") == (1, 2, 0)
    with pytest.raises(TypeError, match=r"<group 'search'>.*for a list.*unhashable"):
        group.get_many([[1]])
    for text in ("ab", b"ab"):
        with pytest.raises(TypeError, match=r"<group 'search'>.*a list of arguments"):
            group.get_many(text)
    with pytest.raises(TypeError, match=r"Group takes no .*values are loaded"):
        group[1] = 2


class Nameless:
    """Nothing tells its objects but their identity."""


@pytest.mark.parametrize(
    "arg",
    [
        Nameless(),
        object(),
        lambda: 1,
        (each for each in "ab"),
        [Nameless()],
        (1, object()),
    ],
    ids=["object", "slots", "lambda", "generator", "in a list", "in a tuple"],
)
@pytest.mark.parametrize("method", ["get", "invalidate", "refresh"])
def test_arguments_without_identity(memory, products, arg, method):
    """They are refused before anything is loaded; the error names the group."""
    group = memory.group("product", products.load, load_many=products.load_many)
    with pytest.raises(UncacheableError, match=r"group 'product'"):
        getattr(group, method)(arg)
    with pytest.raises(UncacheableError, match=r"group 'product'"):
        group.get_many([1, (arg,)])
    assert products.asked == []


def test_text_that_looks_like_an_identity(memory, products):
    """A text of the caller's is no object of this process."""
    group = memory.group("product", products.load)
    text = "token-" + "0" * 32
    assert group.get(text) == {"number": text}


def test_equal_arguments_of_one_batch(memory, products):
    """A dict cannot answer for both 1 and True."""
    group = memory.group("product", load_many=products.load_many)
    with pytest.raises(ValueError, match="both 1 and True"):
        group.get_many([1, True])
    assert products.asked == []


# -- views -----------------------------------------------------------------------------


def test_views(cache, side):
    """Large bytes are a read-only memoryview of L1's own; small ones are bytes."""
    sizes = {"small": VIEW_BYTES - 1, "large": VIEW_BYTES}
    group = side(cache.group("files", lambda name: b"x" * sizes[name], views=True))
    for _ in range(3):
        assert type(group.get("small")) is bytes
        view = group.get("large")
        assert type(view) is memoryview
        assert view.readonly
        assert view == b"x" * VIEW_BYTES
        assert type(group.get_many(["large"])["large"]) is memoryview
    assert group.get("large").obj is group.get("large").obj


def test_no_views_unless_wanted(memory):
    """Bytes are bytes."""
    group = memory.group("files", lambda _name: b"x" * VIEW_BYTES)
    assert type(group.get(1)) is type(group.get(1)) is bytes


# -- other caches ----------------------------------------------------------------------


def test_keys_that_l1_may_not_hold(redis_url, side):
    """With L1_EXCLUDE a group works as before, past L1."""
    products = Products(absent=[3])
    cache = listening(lone_cache(redis_url, l1_exclude=["group:"], negative_ttl=60))
    group = side(cache.group("product", load_many=products.load_many))
    for _ in range(2):
        assert group.get_many([1, 2, 3]) == {1: {"number": 1}, 2: {"number": 2}}
        assert group.get(1) == {"number": 1}
    assert products.asked == [[1, 2, 3]]
    assert group.invalidate(1)
    assert cache.stats().l1_hits == 0


def test_a_store_that_is_away(free_port, side):
    """A batch is one call of the loader, and serves this process for a while."""
    url = f"redis://127.0.0.1:{free_port}"
    cache = lone_cache(url, breaker_failures=1, breaker_retry=600, lease_ttl=60)
    products = Products()
    group = side(cache.group("product", products.load, load_many=products.load_many))
    assert group.get(0) == {"number": 0}  # it opens the breaker
    for _ in range(2):
        assert group.get_many([1, 2]) == {1: {"number": 1}, 2: {"number": 2}}
    assert group.get(1) == {"number": 1}
    assert products.asked == [[0], [1, 2]]
    assert not group.invalidate(1)
    assert cache.health().deletes_owed == 1
    assert group.get(1) == {"number": 1}
    assert products.asked == [[0], [1, 2], [1]]


def test_a_store_that_is_away_raises(free_port):
    """With ON_ERROR="raise" nothing is loaded."""
    products = Products()
    cache = lone_cache(f"redis://127.0.0.1:{free_port}", on_error="raise")
    group = cache.group("product", products.load, load_many=products.load_many)
    for call in (group.get, group.invalidate, group.refresh):
        with pytest.raises(L2Error):
            call(1)
    with pytest.raises(L2Error):
        group.get_many([1, 2])
    assert products.asked == []


# -- what is unusable ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("", ValueError),
        ("a b", ValueError),
        ("a:b", ValueError),
        ("é", ValueError),
        ("a\n", ValueError),
        ("a" * 121, ValueError),
        (None, TypeError),
        (1, TypeError),
        (b"a", TypeError),
    ],
)
def test_names(memory, name, error):
    """The error says what a name may be."""
    with pytest.raises(error, match=r"group.*name must be"):
        memory.group(name, str)
    assert memory.groups() == ()


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({}, TypeError, "give it load, load_many or both"),
        ({"load": 1}, TypeError, "load must be callable, not 1"),
        ({"load_many": "x"}, TypeError, "load_many must be callable"),
        ({"load": str, "ttl": "x"}, TypeError, "group 'product': ttl.*str 'x'"),
        ({"load": str, "ttl": float("nan")}, ValueError, "nan"),
        ({"load": str, "views": 1}, TypeError, "views must be True or False"),
        ({"load": str, "stale_ttl": -1}, ConfigError, "stale_ttl must be"),
        ({"load": str, "early_refresh": "x"}, ConfigError, "early_refresh must be"),
        ({"load": str, "timeout": 60}, TypeError, r"group\(\).*'timeout'.*ttl=60"),
        ({"load": str, "stale": 60}, TypeError, "mean 'stale_ttl'"),
    ],
)
def test_parameters(memory, given, error, text):
    """The error names the parameter, when the group is made."""
    with pytest.raises(error, match=f"(?i){text}"):
        memory.group("product", **given)
    assert memory.groups() == ()


def test_one_name_for_two_functions(memory, products):
    """It is refused while the first group lives; the same function may come again."""
    first = memory.group("product", products.load)
    again = memory.group("product", products.load)
    assert first.get(1) == again.get(1)
    assert products.asked == [[1]]
    with pytest.raises(ConfigError, match=r"'product'.*Products\.load.*load_many"):
        memory.group("product", load_many=products.load_many)
    Cache("memory://").group("product", load_many=products.load_many)  # another cache


def test_the_list_of_groups(memory):
    """They are listed by name, as long as something refers to them."""
    kept = [memory.group(name, str) for name in ("b", "a")]
    assert [each.name for each in memory.groups()] == ["a", "b"]
    del kept[0]
    assert [each.name for each in memory.groups()] == ["a"]
    assert repr(kept[0]) == "<group 'a'>"


def test_a_child_counts_from_zero():
    """After a fork the statistics are the child's own, and its group works."""
    code = (
        "import os\n"
        "from cachebridge import Cache\n"
        "group = Cache('memory://').group('g', str)\n"
        "group.get(1), group.get(1)\n"
        "if (pid := os.fork()) == 0:\n"
        "    assert group.get(2) == '2'\n"
        "    print(group.stats(), flush=True)\n"
        "    os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "print(group.stats())"
    )
    child = Child([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.line() == "GroupStats(name='g', hits=0, loads=1, failures=0)\n"
    assert child.line() == "GroupStats(name='g', hits=1, loads=1, failures=0)\n"
    child.end()


def test_a_closed_cache(memory, products):
    """Its groups raise, as its other methods do."""
    group = memory.group("product", products.load)
    memory.close()
    for call in (lambda: group.get(1), lambda: group.get_many([1])):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_coroutine_functions_need_the_awaited_methods(memory):
    """The others raise before anything is called."""

    async def load(_arg):
        raise AssertionError

    group = memory.group("product", load)
    batch = memory.group("batch", load_many=load)
    for call in (
        lambda: group.get(1),
        lambda: group.get_many([1]),
        lambda: group.refresh(1),
        lambda: batch.get(1),
        lambda: batch.get_many([1]),
        lambda: batch.refresh(1),
    ):
        with pytest.raises(TypeError, match="coroutine function"):
            call()


def test_missing_is_not_the_absent_of_a_default(memory):
    """ABSENT may be a default."""
    group = memory.group("none", lambda _arg: ABSENT)
    assert group.get(1, ABSENT) is ABSENT


def loads_from(place):
    def load(arg):
        return place, arg

    return load


class Table:
    def load(self, arg):
        return arg


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda arg: ("one", arg), lambda arg: ("other", arg)),
        (loads_from("one"), loads_from("other")),
        (loads_from(object()), loads_from(object())),
        (Table().load, Table().load),
    ],
    ids=["lambdas", "closures", "objects in closures", "methods"],
)
def test_two_functions_of_one_name(cache, one, other):
    """Their values are not the same: no name of a group is for both."""
    group = cache.group("one-name", one)
    assert cache.group("one-name", one).name == group.name
    with pytest.raises(ConfigError, match="another closure or object"):
        cache.group("one-name", other)


def test_clear(cache, products):
    """All values of the group go, and none of another whose name begins alike."""
    group = cache.group("product", products.load)
    other = cache.group("product2", products.load)
    for each in (group, other):
        each.get_many([1, 2, "a b", "x" * 300])
    cache.set("group:product", 1)
    assert group.clear()
    assert not any(arg in group for arg in (1, 2, "a b", "x" * 300))
    assert all(arg in other for arg in (1, 2, "a b", "x" * 300))
    assert cache.get("group:product") == 1
    group.get(1)
    assert asyncio.run(group.aclear())
    assert 1 not in group


def test_a_clear_voids_the_loads_that_run(cache):
    """What was loaded from before it is not stored after it."""
    seen = []

    def load(number):
        seen.append(number)
        if len(seen) == 1:
            group.clear()
        return len(seen)

    group = cache.group("number", load)
    assert (group.get(7), group.get(7), group.get(7)) == (1, 2, 2)
