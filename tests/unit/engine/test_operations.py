"""Operations of several steps, driven by a script: no store, no thread."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cachebridge.core.entry import MISSING
from cachebridge.core.keys import KeyPattern
from cachebridge.engine.operations import Operations
from cachebridge.errors import MissingKeyError
from cachebridge.l2.store import SCAN_COUNT
from cachebridge.waiting.run import run


class Scripted(Operations):
    """Operations whose steps check that they are expected, and answer by the script."""

    def __init__(self, script):
        self._script = iter(script)
        steps = {name: self.step(name) for name in ("clear", "scan", "publish")}
        self.l2 = SimpleNamespace(**steps)
        prefixes = []
        rules = SimpleNamespace(on_prefix=prefixes.append)
        rules.everywhere = lambda: (rules,)
        self.engine = SimpleNamespace(
            departures=0,
            rules=rules,
            outgoing=SimpleNamespace(prefix_message=lambda prefix: prefix),
        )
        self.values = SimpleNamespace(are_sealed=False)
        self.prefixes = prefixes

    def next(self, *step):
        expected, answer = next(self._script)
        assert step == expected
        return answer

    def step(self, name):
        async def call(*args):
            return self.next(name, *args)

        return call

    def ends(self):
        assert next(self._script, None) is None


for name in ("incr_in_l2", "read", "replace"):

    async def _step(self, *args, _name=name):
        return self.next(_name, *args)

    setattr(Scripted, name, _step)


def incr(script, delta):
    operations = Scripted(script)
    try:
        return run(operations.incr("k", delta))
    finally:
        operations.ends()


def test_incr_in_l2():
    """L2 adds where it can, zero included."""
    assert incr([(("incr_in_l2", "k", 0), 0)], 0) == 0


def test_incr_of_nothing():
    """A key that does not exist raises, naming it."""
    with pytest.raises(MissingKeyError, match="'k'"):
        incr([(("incr_in_l2", "k", 1), None)], 1)


def test_incr_by_compare_and_set():
    """What L2 cannot add is replaced, until no other writer came in between."""
    script = [
        (("incr_in_l2", "k", 1), "not an integer"),
        (("read", "k"), (b"1.5", 1.5)),
        (("replace", "k", b"1.5", 2.5), False),
        (("read", "k"), (b"4.5", 4.5)),
        (("replace", "k", b"4.5", 5.5), True),
    ]
    assert incr(script, 1) == 5.5


@pytest.mark.parametrize(
    "script",
    [
        [(("read", "k"), (None, MISSING))],
        [(("read", "k"), (b"?", MISSING))],
    ],
)
def test_incr_of_what_vanished(script):
    """Gone or unreadable in between: there is nothing to add to."""
    with pytest.raises(MissingKeyError):
        incr(script, 0.5)


class Clearing(Scripted):
    """Deletes by the script, too."""

    async def delete_many(self, keys):
        return self.next("delete_many", list(keys))


def clear(glob, prefix, script):
    operations = Clearing([(("clear", prefix, _ANY), None), *script])
    assert run(operations.clear(KeyPattern(glob, prefix))) is True
    operations.ends()
    assert operations.prefixes == [prefix, prefix]


class _Any:
    def __eq__(self, _other):
        return True

    __hash__ = None


_ANY = _Any()


def test_clear_walks_to_the_end():
    """Each batch is deleted with its message, none if empty; the prefix is last."""
    script = [
        (("scan", "p:*", 0, SCAN_COUNT), (7, ["p:1", "p:2"])),
        (("delete_many", ["p:1", "p:2"]), 2),
        (("scan", "p:*", 7, SCAN_COUNT), (9, [])),
        (("scan", "p:*", 9, SCAN_COUNT), (0, ["p:3"])),
        (("delete_many", ["p:3"]), 1),
        (("publish", "p:"), None),
    ]
    clear("p:*", "p:", script)
