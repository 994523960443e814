"""Copy rules: L1 holds what L2 would give back, and no caller can change it."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import pickle
import uuid
import zoneinfo
from typing import NamedTuple

import pytest
from django.utils.safestring import SafeString
from hypothesis import given, settings
from hypothesis import strategies as st

from cachebridge.codec.values import SERIALIZERS
from cachebridge.core.entry import MISSING, make_entry
from cachebridge.l1.copies import (
    CopyRules,
    estimate_bytes,
    is_flat,
    is_immutable,
    register_immutable,
)

PICKLE = SERIALIZERS["pickle"]
UTC = dt.UTC


class OddZone(dt.tzinfo):
    """A time zone that can be changed: nothing with it is immutable."""

    def __init__(self):
        self.offset = dt.timedelta(0)

    def utcoffset(self, when):
        return self.offset

    def dst(self, when):
        return dt.timedelta(0)

    def tzname(self, when):
        return "odd"

    def __reduce__(self):
        return OddZone, ()


class Text(str):
    __slots__ = ("note",)


class Number(int):
    pass


class Mapping(dict):
    pass


class Pair(tuple):
    __slots__ = ()


class Point(NamedTuple):
    x: object
    y: object


class Colour(enum.Enum):
    RED = 1


class Plain:
    def __init__(self):
        self.items = []

    def __eq__(self, other):
        return type(other) is Plain and other.items == self.items

    __hash__ = None

    def __repr__(self):
        return f"Plain({self.items})"  # names a test: the same in every process


@pytest.fixture
def copies():
    return CopyRules(encode=PICKLE.encode, decode=PICKLE.decode)


def kind_of(copies, value):
    """Name the form that a value takes."""
    kind = copies.form_of(value, PICKLE.encode(value))[0]
    return {
        copies.by_reference: "reference",
        copies.template: "template",
        copies.encoded: "encoded",
    }[kind]


def keep(copies, value):
    return make_entry(0.0, *copies.form_of(value, PICKLE.encode(value)))


NOW = dt.datetime(2026, 2, 3, 4, 5, 6)  # noqa: DTZ001 naive on purpose

REFERENCES = [
    "text",
    b"bytes",
    1,
    2**80,
    1.5,
    1j,
    True,
    None,
    NOW,
    NOW.replace(tzinfo=UTC),
    NOW.replace(tzinfo=dt.timezone(dt.timedelta(hours=2))),
    NOW.replace(tzinfo=zoneinfo.ZoneInfo("UTC")),
    NOW.date(),
    NOW.time(),
    NOW.timetz(),
    dt.timedelta(1),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
    (),
    (1, "a", None),
    frozenset({1, 2}),
    ((1, (2, (3,))), frozenset({4})),
]
TEMPLATES = [
    {},
    [],
    set(),
    {"a": 1, "b": None, 3: b"x"},
    [1, "a", 2.5, True],
    {1, 2},
]
ENCODED = [
    Text("text"),
    Number(1),
    Mapping(a=1),
    Pair((1, 2)),
    Point(1, 2),
    Colour.RED,
    Plain(),
    bytearray(b"x"),
    range(3),
    collections.OrderedDict(a=1),
    collections.defaultdict(list),
    collections.deque([1]),
    {"a": []},
    {"a": Text("x")},
    {Text("a"): 1},
    [[1]],
    [(1, [2])],
    {(1, 2)},
    ([],),
    (1, Text("x")),
    (1, (2, [3])),
    ((((((1,),),),),),),
    tuple(range(65)),
    frozenset({Point(1, 2)}),
    NOW.replace(tzinfo=OddZone()),
    [NOW],
]


@pytest.mark.parametrize("value", REFERENCES, ids=repr)
def test_immutable_values_stay_by_reference(copies, value):
    """What cannot be changed is shared."""
    assert kind_of(copies, value) == "reference"
    assert copies.value_of(keep(copies, value)) is value


@pytest.mark.parametrize("value", TEMPLATES, ids=repr)
def test_flat_containers_stay_as_templates(copies, value):
    """What holds immutable values only is copied when stored and for each reader."""
    assert kind_of(copies, value) == "template"
    entry = keep(copies, value)
    one, two = copies.value_of(entry), copies.value_of(entry)
    assert one == two == value
    assert type(one) is type(value)
    assert len({id(each) for each in (one, two, value)}) == 3


@pytest.mark.parametrize("value", ENCODED, ids=lambda value: type(value).__name__)
def test_everything_else_stays_as_bytes(copies, value):
    """Subclasses, nested containers and unknown types are decoded for each reader."""
    assert kind_of(copies, value) == "encoded"
    entry = keep(copies, value)
    one, two = copies.value_of(entry), copies.value_of(entry)
    assert type(one) is type(two) is type(value)
    if not isinstance(value, dt.datetime):
        assert one == two == value


def test_adapters_add_types_of_their_own(copies):
    """Django's SafeString cannot be changed, and its backend says so."""
    register_immutable(SafeString)
    value = SafeString("<b>")
    assert kind_of(copies, value) == "reference"
    assert kind_of(copies, [value]) == "template"
    assert copies.value_of(keep(copies, value)) is value


def test_equal_keys_keep_their_types(copies):
    """1, True and 1.0 are one dictionary key but three values."""
    for value in ([1, True, 1.0], (1, True, 1.0), {"a": True, "b": 1}):
        back = copies.value_of(keep(copies, value))
        items = back.values() if isinstance(back, dict) else back
        originals = value.values() if isinstance(value, dict) else value
        assert [type(item) for item in items] == [type(item) for item in originals]


def damage(value):
    """Change a value in every way that its type allows."""
    if isinstance(value, dict):
        for inner in list(value.values()):
            damage(inner)
        value["damaged"] = True
    elif isinstance(value, (list, collections.deque)):
        for inner in list(value):
            damage(inner)
        value.append("damaged")
    elif isinstance(value, set):
        value.add("damaged")
    elif isinstance(value, bytearray):
        value.extend(b"damaged")
    elif isinstance(value, tuple):
        for inner in value:
            damage(inner)
    elif isinstance(value, Plain):
        value.items.append("damaged")


@pytest.mark.parametrize(
    "make",
    [
        lambda: {"a": 1},
        lambda: [1, 2],
        lambda: {1, 2},
        lambda: {"a": [1, {"b": [2]}]},
        lambda: ([1], {"a": {1}}),
        lambda: Point([1], 2),
        lambda: Mapping(a=[1]),
        lambda: collections.defaultdict(list, a=[1]),
        lambda: collections.deque([[1]]),
        lambda: bytearray(b"abc"),
        Plain,
        lambda: (1, Plain()),
    ],
)
def test_no_two_callers_share_an_object(copies, make):
    """I18: neither the writer nor any reader can reach what L1 or another one holds."""
    written = make()
    entry = keep(copies, written)
    damage(written)
    for _ in range(3):
        value = copies.value_of(entry)
        assert value == make()
        damage(value)
        assert value != make()


def test_kinds_belong_to_one_codec(copies):
    """An entry made under another codec is no answer, whatever form it has."""
    other = CopyRules(encode=PICKLE.encode, decode=PICKLE.decode)
    for value in ("text", {"a": 1}, [[1]]):
        assert other.value_of(keep(copies, value)) is MISSING
        assert not other.is_same(keep(copies, value), PICKLE.encode(value))


@pytest.mark.parametrize("value", [*REFERENCES, *TEMPLATES, *ENCODED[:16]], ids=repr)
def test_is_same_by_bytes(copies, value):
    """An entry is the same as the bytes it would be encoded to, and as no others."""
    entry = keep(copies, value)
    assert copies.is_same(entry, PICKLE.encode(value))
    assert not copies.is_same(entry, PICKLE.encode("something else"))


@pytest.mark.parametrize(("one", "two"), [(1, True), (0, False), (1, 1.0), (0.0, -0.0)])
def test_is_same_tells_types_apart(copies, one, two):
    """Equal is not the same."""
    assert not copies.is_same(keep(copies, one), PICKLE.encode(two))


ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.binary(max_size=5)
    | st.datetimes()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
        | st.sets(ATOMS, max_size=4)
        | st.frozensets(ATOMS, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_l1_gives_what_l2_would(value):
    """For any value: the same content and types as through L2, also when changed."""
    copies = CopyRules(encode=PICKLE.encode, decode=PICKLE.decode)
    raw = PICKLE.encode(value)
    entry = keep(copies, value)
    through_l2 = PICKLE.decode(raw)
    for _ in range(2):
        back = copies.value_of(entry)
        assert back == through_l2
        assert repr(back) == repr(copies.value_of(entry))
        damage(back)


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_reference_means_immutable(value):
    """No value that is kept by reference has anything in it that can be changed."""
    if is_immutable(value):
        before = pickle.dumps(value)
        damage(value)
        assert pickle.dumps(value) == before
    elif is_flat(value):
        assert estimate_bytes(value) >= 0
