"""What tells arguments apart: the text of a value in a key."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import enum
import functools
import io
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from markupsafe import Markup
from werkzeug.datastructures import FileStorage, Headers, ImmutableMultiDict, MultiDict
from werkzeug.local import LocalProxy

from cachebridge import UncacheableError
from cachebridge.identity.values import text_of


class Handle:
    """Told by its identity: no equality and no repr of its own."""

    def method(self):
        """Have something to bind."""


class Money:
    """Told by its equality, and shows nothing of it."""

    def __init__(self, amount):
        self.amount = amount

    def __eq__(self, other):
        return self.amount == other.amount

    def __hash__(self):
        return hash(self.amount)


class Abridged:
    def __init__(self, values):
        self.values = values

    def __repr__(self):
        return f"<Abridged {self.values[0]} ... {self.values[-1]}>"


class Titled:
    """A model that shows a title, which others of its kind share."""

    def __init__(self, pk):
        self.pk = pk

    def __repr__(self):
        return "<Titled: news>"


class Named:
    def __init__(self, name, **others):
        self.name = name
        self.others = others

    def __caching_id__(self):
        return self.name


class Slotted:
    __slots__ = ()


class Words(list):
    """A list with an attribute."""


@dataclasses.dataclass
class Query:
    page: int
    secret: object = dataclasses.field(default=None, repr=False)
    cost: int = dataclasses.field(default=0, repr=False, compare=False)


class Priced(Query):
    """Adds an attribute, and declares no field."""

    def __init__(self, page, price):
        super().__init__(page)
        self.price = price

    @functools.cached_property
    def doubled(self):
        return 2 * self.price


class Labelled(collections.namedtuple("Labelled", "x")):  # noqa: PYI024, SLOT002 as many have it
    """A named tuple that has attributes."""


class Kept(collections.UserDict):
    """A mapping that has an attribute, and keeps its hash."""

    def __init__(self, items, source):
        super().__init__(items)
        self.source = source

    def __hash__(self):
        self._hash = hash(tuple(self.items()))
        return self._hash


class Page(collections.UserList):
    def __init__(self, items, total):
        super().__init__(items)
        self.total = total


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Shade(enum.Enum):
    RED = 1


Shade.__qualname__ = "Colour2"
Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 as many have it
Place = collections.namedtuple("Place", "x z")  # noqa: PYI024 as many have it
handle, other = Handle(), Handle()
UTC = dt.UTC
NOON = dt.datetime(2020, 1, 1, 12)  # noqa: DTZ001 told from those with a zone
PARIS = dt.timezone(dt.timedelta(hours=1))


def with_tag(tag):
    words = Words("ab")
    words.tag = tag
    return words


def with_label(label):
    labelled = Labelled(1)
    labelled.label = label
    return labelled


def remembering(result):
    @functools.cache
    def function():
        return result

    return function


def with_its_property(priced):
    assert priced.doubled
    return priced


def with_its_hash(mapping):
    assert hash(mapping)
    return mapping


DIFFERENT = {
    "types": (1, 1.0, True, "1", b"1", "True", None, "None", [1], (1,), {1}),
    "nested": ([1, [2]], [1, 2], ["1, [2]"], [[1], 2]),
    "joined": (("a", "b, c"), ("a, b", "c"), ("a", "b", "c"), ("a', 'b, c",)),
    "dictionaries": ({"a": 1}, {"a": "1"}, {"a": 1, "b": 2}, {("a", 1): 0}),
    "ordered": (
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
        {"a": 1, "b": 2},
    ),
    "fields that are not shown": (Query(1), Query(2), Query(1, "x"), Query(1, "y")),
    "fields that show nothing": (Query(1, handle), Query(2, handle), Query(1, other)),
    "named tuples": (Point(1, 2), Place(1, 2), (1, 2), Point(1, handle)),
    "members": (Colour.RED, Colour.BLUE, Shade.RED, Colour, Shade),
    "abridged": (Abridged([1, 2, 3]), Abridged([1, 9, 3])),
    "long patterns": (
        re.compile("x" * 300),
        re.compile("x" * 300 + "y"),
        re.compile("x" * 300, re.IGNORECASE),
    ),
    "titles": (Titled(1), Titled(2)),
    "identity": (handle, other, Handle, Slotted),
    "equality": (Money(1), Money(2)),
    "holders": (
        types.SimpleNamespace(page=1, by=handle),
        types.SimpleNamespace(page=2, by=handle),
        types.SimpleNamespace(page=1, by=other),
    ),
    "queues": (
        collections.deque([handle]),
        collections.deque([handle, 1]),
        collections.deque([handle], 3),
    ),
    "counts": (collections.Counter({handle: 1}), collections.Counter({handle: 2})),
    "factories": (
        collections.defaultdict(int, a=1),
        collections.defaultdict(list, a=1),
        {"a": 1},
    ),
    "attributes": (with_tag("x"), with_tag("y"), Words("ab"), list("ab")),
    "times": (NOON, NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=PARIS), NOON.date()),
    "texts": ("x", Markup("x"), b"x", bytearray(b"x")),
    "arrays": (
        array.array("i", range(1000)),
        array.array("i", [*range(999), 5]),
        memoryview(b"ab"),
        memoryview(b"ac"),
    ),
    "functions": (text_of, len, handle.method, other.method, Handle.method),
    "partials": (
        functools.partial(text_of),
        functools.partial(text_of, 1),
        functools.partial(text_of, value=1),
        functools.partial(len),
    ),
    "lambdas": (lambda: 1, lambda: 2),
    "functions with a cache": (remembering(1), remembering(2), remembering),
    "attributes besides fields": (Priced(1, 2), Priced(1, 3), Query(1)),
    "attributes of named tuples": (with_label("a"), with_label("b"), Labelled(1)),
    "attributes of mappings": (Kept({1: 2}, "a"), Kept({1: 2}, "b"), {1: 2}),
    "attributes of sequences": (Page([1], 5), Page([1], 6), [1]),
    "maps in a chain": (
        collections.ChainMap({1: 2}, {1: 3}),
        collections.ChainMap({1: 2}, {1: 4}),
        collections.ChainMap({1: 2}),
    ),
    "parameters": (
        MultiDict([("a", "1"), ("a", "2")]),
        MultiDict([("a", "2"), ("a", "1")]),
        ImmutableMultiDict([("a", "1"), ("a", "2")]),
    ),
    "headers": (Headers([("a", "1")]), Headers([("a", "2")])),
    "ids": (Named("a"), Named("b"), "a"),
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_what_a_function_can_tell_apart(values):
    """Each has a text of its own, and the same each time; also inside of others."""
    for wrap in (
        lambda value: value,
        lambda value: [value],
        lambda value: Query(1, value),
    ):
        texts = [text_of(wrap(value)) for value in values]
        assert len(set(texts)) == len(values), texts
        assert texts == [text_of(wrap(value)) for value in values]


hashed = ImmutableMultiDict([("a", "1")])
hash(hashed)
EQUAL = {
    "dictionaries": ({"a": 1, "b": {2, 3}}, {"b": {3, 2}, "a": 1}),
    "counts": (collections.Counter("abb"), collections.Counter("bba")),
    "fields": (Query(1, {1, 2}, cost=1), Query(1, {2, 1}, cost=2)),
    "equality": (Money(1), Money(1)),
    "properties that are kept": (Priced(1, 2), with_its_property(Priced(1, 2))),
    "hashes that are kept": (Kept({1: "a"}, 1), with_its_hash(Kept({1: "a"}, 1))),
    "titles": (Titled(1), Titled(1)),
    "ids": (Named("a", session=handle), Named("a", session=other)),
    "methods": (handle.method, handle.method),
    "methods of lists": ([1].append, [1].append),
    "partials": (functools.partial(len, {1, 2}), functools.partial(len, {2, 1})),
    "views": ({1: 2, 3: 4}.keys(), {3: 4, 1: 2}.keys()),
    "proxies": (
        types.MappingProxyType({1: 2, 3: 4}),
        types.MappingProxyType({3: 4, 1: 2}),
    ),
    "user lists": (collections.UserList([{1, 2}]), collections.UserList([{2, 1}])),
    "parameters": (
        MultiDict([("a", "1"), ("b", "2")]),
        MultiDict([("b", "2"), ("a", "1")]),
    ),
    "hashed parameters": (ImmutableMultiDict([("a", "1")]), hashed),
    "what Flask hands out": (LocalProxy(lambda: handle), handle),
}


@pytest.mark.parametrize("values", EQUAL.values(), ids=EQUAL)
def test_equal_values_have_one_text(values):
    """However they were made."""
    assert text_of(values[0]) == text_of(values[1])


def test_a_change_is_seen():
    """Objects that are told by what they hold have another text when that changes."""
    query = Query(1, handle)
    namespace = types.SimpleNamespace(page=1, by=handle)
    before = text_of(query), text_of(namespace)
    query.page = namespace.page = 2
    assert (text_of(query), text_of(namespace)) != before
    assert text_of(query) != before[0]
    assert text_of(namespace) != before[1]


def test_classes_of_one_name_are_told_apart():
    """A class that no other process finds by its name is told by its identity."""

    def made():
        class Local:
            pass

        return Local

    assert text_of(made()) != text_of(made())


@pytest.mark.parametrize(
    "value",
    [
        iter([1]),
        (each for each in ()),
        map(len, []),
        io.BytesIO(b"x"),
        FileStorage(io.BytesIO(b"x"), "name"),
        Slotted(),
        {"a": [Slotted()]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_refused(value):
    """What reading uses up, and what nothing identifies: the error says what to do."""
    with pytest.raises(UncacheableError, match=r"part of a key.*(Pass|__cach)"):
        text_of(value)


def test_a_value_that_contains_itself_is_refused():
    """Also through an attribute of a dataclass."""
    knot = Query(1)
    knot.secret = [knot]
    with pytest.raises(UncacheableError, match="contains itself"):
        text_of(knot)


SEEDED = """
import collections, dataclasses, enum, functools, datetime, types
from cachebridge.identity.values import text_of

@dataclasses.dataclass
class Query:
    tags: frozenset

class Colour(enum.Flag):
    RED = 1
    BLUE = 2

class Money:
    def __init__(self, tags): self.tags = tags
    def __eq__(self, other): return self.tags == other.tags
    def method(self): pass

tags = frozenset(["red", "green", "blue", "white", b"red", 1, 2.5, None])
print(text_of([
    tags, set(tags), {tag: tags for tag in tags}, Query(tags), Money(tags),
    Money(tags).method, functools.partial(Money, tags), types.SimpleNamespace(a=tags),
    collections.Counter(tags), collections.deque([tags]), collections.UserList([tags]),
    Colour.RED | Colour.BLUE, len, Money, text_of, datetime.datetime(2020, 1, 1),
    collections.defaultdict(list, a=tags), {1, (2, tags)},
    collections.ChainMap({1: tags}),
]))
"""


def test_every_process_has_the_same_text():
    """Whatever the hash seed, and wherever objects are in memory."""
    root = Path(__file__).parents[3]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SEEDED],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "22")
    ]
    texts = {each.communicate()[0] for each in running}
    assert len(texts) == 1
    assert "0x" not in texts.pop()


def test_numpy_arrays_are_told_by_content():
    """Not by their repr, which leaves out items and digits."""
    numpy = pytest.importorskip("numpy", reason="its arrays are arguments")
    zeros = numpy.zeros(5000, int)
    changed = zeros.copy()
    changed[2500] = 7
    table = numpy.arange(6.0).reshape(2, 3)
    different = [
        zeros,
        changed,
        zeros.reshape(2, 2500),
        zeros.astype("i4"),
        numpy.array([0.1]),
        numpy.array([0.1 + 1e-12]),
        numpy.ma.masked_array([1, 2], [0, 1]),
        numpy.ma.masked_array([1, 2], [0, 0]),
        numpy.array([1, {2}], object),
        numpy.array([1, {3}], object),
        numpy.float64(1),
        numpy.float32(1),
        1.0,
    ]
    assert len({text_of(each) for each in different}) == len(different)
    assert text_of(table) == text_of(numpy.asfortranarray(table))
    assert text_of(table[:, ::2]) == text_of(table[:, ::2].copy())


def test_pandas_tables_are_told_by_content():
    """Whichever of their columns lie together in memory."""
    pandas = pytest.importorskip("pandas", reason="its frames are arguments")
    table = pandas.DataFrame({"a": range(200), "b": list("xy") * 100})
    changed = table.copy()
    changed.loc[100, "a"] = -1
    grown = pandas.DataFrame(index=range(200))
    grown["a"], grown["b"] = range(200), list("xy") * 100
    different = [
        table,
        changed,
        table.rename(columns={"a": "c"}),
        table["a"],
        changed["a"],
        table["a"].rename("c"),
        pandas.Series([0.1]),
        pandas.Series([0.1 + 1e-12]),
        pandas.Index(range(500)),
        pandas.Categorical(["a"]),
        pandas.Timestamp("2020"),
        pandas.Timestamp("2021"),
    ]
    assert len({text_of(each) for each in different}) == len(different)
    assert text_of(table) == text_of(table.copy()) == text_of(grown)
