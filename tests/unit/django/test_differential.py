"""The same calls on LocMemCache and on ours must have the same effects."""

from __future__ import annotations

import datetime as dt
import itertools
import sys
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from django.utils.safestring import SafeString
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.sides import SIDES, on_side
from tests.stores import ALONE, REDIS, WITH_BUS, make_place
from tests.unit.django.support import LOCMEM, entry, outcome_of, trusted

STORES = {
    "redis": (REDIS, {}),
    "redis without L1": (REDIS, {"L1_MAX_ENTRIES": 0}),
    "redis, nothing in L1": (REDIS, {"L1_EXCLUDE": [*"abck1T", "ключ"]}),
    "memory": (None, {}),
    "memcached+bus": (WITH_BUS, {}),
    "memcached without L1": (WITH_BUS, {"L1_MAX_ENTRIES": 0}),
    "memcached": (ALONE, {}),
}


class Key(str, Enum):  # noqa: UP042 formats otherwise than a StrEnum
    A = "a"


KEYS = [
    "a",
    "b",
    "c",
    "k" * 250,
    1,
    "1",
    True,
    "True",
    1.0,
    None,
    SafeString("a"),
    Key.A,
    ("t", 1),
    "ключ",
    "a b",
    "a\x7f",
    "a\n",
    "a\x00",
    "",
    b"a",
]
VALUES = [
    None,
    True,
    0,
    -7,
    2**53 + 1,
    2**63 - 1,
    -(2**63),
    2**63,
    2**70,
    1.5,
    float("inf"),
    "",
    "5",
    "text",
    SafeString("<b>"),
    b"5",
    b"",
    [1, [2]],
    [1, 2],
    {"a": 1},
    {"a": {"b": [1]}},
    {1, 2},
    (1, "x", (None,)),
    ([1],),
    Decimal("1.10"),
    dt.datetime(2026, 1, 2, tzinfo=dt.UTC),
    Key.A,
    lambda: None,  # no serializer takes it
]
TIMEOUTS = [
    DEFAULT_TIMEOUT,
    DEFAULT_TIMEOUT,
    None,
    900,
    900.5,
    0,
    -1,
    -0.5,
    0.0,
    sys.maxsize,
    float("inf"),
]
DELTAS = [1, -1, 0, 10, True, 2.5, 2**53, 2**63, -(2**64), "x", None]
VERSIONS = [None, None, None, 1, 2, 0, "v"]

keys = st.sampled_from(KEYS)
values = st.sampled_from(VALUES)
picklable = st.sampled_from(VALUES[:-1])
versions = st.sampled_from(VERSIONS)
timeouts = st.sampled_from(TIMEOUTS)
deltas = st.sampled_from(DELTAS)
# Of keys that are equal to Python, like 1 and True, a dict keeps one: not of interest.
some_keys = st.lists(st.sampled_from([*KEYS[:6], *KEYS[9:]]), max_size=8)
SHAPES = [list, tuple, iter, lambda given: dict.fromkeys(given).keys()]


def _call(name: str, *arguments: st.SearchStrategy[Any], version: bool = True):
    named = {"version": versions} if version else {}
    return st.tuples(st.just(name), st.tuples(*arguments), st.fixed_dictionaries(named))


CALLS = st.one_of(
    _call("get", keys),
    _call("get", keys, values),
    _call("get_many", st.tuples(st.sampled_from(SHAPES), some_keys)),
    _call("set", keys, values),
    _call("set", keys, values, timeouts),
    _call("set_many", st.dictionaries(keys, picklable, max_size=4), timeouts),
    _call("add", keys, values, timeouts),
    _call("touch", keys, timeouts),
    _call("touch", keys),
    _call("delete", keys),
    _call("delete_many", st.tuples(st.sampled_from(SHAPES), some_keys)),
    _call("has_key", keys),
    _call("__contains__", keys, version=False),
    _call("incr", keys, deltas),
    _call("incr", keys),
    _call("decr", keys, deltas),
    _call("incr_version", keys, st.sampled_from([1, 2, -1])),
    _call("decr_version", keys),
    _call("get_or_set", keys, values, timeouts),
    _call("get_or_set", keys, picklable.map(lambda value: lambda: value)),
    _call("clear", version=False),
    _call("close", version=False),
)


def _arguments(given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Make lists of keys anew for each of the two: an iterator serves one only."""
    return tuple(
        part[0](part[1])
        if isinstance(part, tuple) and len(part) == 2 and callable(part[0])
        else part
        for part in given
    )


def _do(cache, name, given_arguments, named):
    call = getattr(cache, name)
    return outcome_of(lambda: call(*_arguments(given_arguments), **named))


def _compare(ours, reference, calls) -> None:
    for step, (name, given_arguments, named) in enumerate(calls):
        if name == "delete":
            # LocMemCache says True for what has expired but has not been looked at.
            _do(reference, "has_key", given_arguments, named)
        expected = _do(reference, name, given_arguments, named)
        got = _do(ours, name, given_arguments, named)
        said = f"step {step}: {name}{given_arguments} {named}"
        if expected.error is not None:
            assert got.error is not None, f"{said}: LocMem raised {expected.error}"
            assert issubclass(got.error, expected.error), said
        else:
            assert got.error is None, f"{said}: raised {got.error}"
        if name != "delete_many":  # LocMemCache does not say how many there were
            assert got.value == expected.value, said
        assert got.warned == expected.warned, said


@pytest.fixture(params=SIDES)
def pair(request, plain_pair):
    """Return a cache of ours, as threads or tasks use it, and an empty LocMemCache."""
    ours, reference = plain_pair
    return on_side(request.param, ours), reference


@pytest.fixture(params=STORES, ids=str)
def plain_pair(request, set_caches, redis_url):
    """Return a cache of ours and an empty LocMemCache."""
    store, options = STORES[request.param]
    location = "memory://differential"
    if store is not None:
        location = make_place(request, store, redis_url)
    set_caches(
        default=entry(location, OPTIONS=options),
        reference={"BACKEND": LOCMEM, "LOCATION": "reference"},
    )
    if "L1_MAX_ENTRIES" not in options:
        trusted(caches["default"])
    return caches["default"], caches["reference"]


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # the failing step says it all; shrinking takes minutes
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
        HealthCheck.too_slow,
    ],
)
@given(calls=st.lists(CALLS, min_size=10, max_size=40))
def test_random_calls_have_the_same_effects(pair, calls):
    """Results, types, order, exceptions and warnings are LocMemCache's."""
    ours, reference = pair
    ours.clear()
    reference.clear()
    _compare(ours, reference, calls)


def test_every_call_on_every_value_has_the_same_effect(pair):
    """Each value under each single-key call, so that chance leaves no pair out."""
    ours, reference = pair
    for value, delta in itertools.product(VALUES, DELTAS):
        calls = [
            ("set", ("a", value), {}),
            ("get", ("a",), {}),
            ("incr", ("a", delta), {}),
            ("get", ("a",), {}),
            ("get", ("a",), {}),
            ("incr_version", ("a",), {}),
            ("get_or_set", ("a", value), {"version": 2}),
            ("delete", ("a",), {"version": 2}),
            ("delete", ("a",), {}),
        ]
        _compare(ours, reference, calls)


def test_every_timeout_has_the_same_effect(pair):
    """Each timeout under each call that takes one, on absent and present keys."""
    ours, reference = pair
    for timeout, key in itertools.product(TIMEOUTS, ["absent", "present"]):
        for call in (
            ("set", (key, 1, timeout), {}),
            ("add", (key, 1, timeout), {}),
            ("touch", (key, timeout), {}),
            ("set_many", ({key: 1}, timeout), {}),
            ("get_or_set", (key, 2, timeout), {}),
        ):
            lease = [("get", (key,), {}), ("has_key", (key,), {})]
            calls = [("set", ("present", 0, None), {}), call, *lease, *lease]
            _compare(
                ours, reference, [*calls, ("delete_many", ([key, "present"],), {})]
            )
