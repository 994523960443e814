"""Deletes that L2 owes: kept, bounded, paid once, and owed anew if need be."""

from __future__ import annotations

import threading

import pytest

from cachebridge.core.keys import KeyPattern
from cachebridge.engine.answers import _keys_of
from cachebridge.engine.debts import Debts
from cachebridge.errors import L2Error

PATTERN = KeyPattern("p:*", "p:")


class Payment:
    """Pays debts and keeps what was done, in order."""

    def __init__(self, debts):
        self.debts = debts
        self.done = []
        self.fails = False

    def pay(self):
        self.debts.pay(
            lambda keys: self._do("delete", list(keys)),
            lambda pattern: self._do("clear", pattern),
            lambda: self._do("flush", None),
        )
        return self.done

    def _do(self, *call):
        if self.fails:
            raise L2Error("away")
        self.done.append(call)


@pytest.fixture
def debts():
    return Debts(limit=5)


def test_nothing_is_owed_at_first(debts):
    """Paying nothing does nothing."""
    assert not debts
    assert len(debts) == 0
    assert Payment(debts).pay() == []


def test_keys_are_owed_once(debts):
    """However often a key failed, it is deleted once, and then not owed any more."""
    debts.owe(["a", "b"], PATTERN)
    debts.owe(["a"], None)
    assert len(debts) == 2
    assert debts.concern(["x", "a"])
    assert not debts.concern(["x"])
    payment = Payment(debts)
    assert payment.pay() == [("delete", ["a", "b"])]
    assert not debts
    assert payment.pay() == [("delete", ["a", "b"])]


def test_a_clear_is_concerned_by_its_prefix(debts):
    """Its glob is no key: what happens to be called like that is another's."""
    debts.owe([PATTERN.glob], None)
    assert debts.concern(_keys_of((PATTERN.glob,)))
    assert not debts.concern(_keys_of((PATTERN,)))
    debts.owe_clear(PATTERN)
    assert debts.concern(_keys_of((PATTERN,)))


def test_a_failed_payment_stays_owed(debts):
    """What could not be paid is tried again."""
    debts.owe(["a"], None)
    payment = Payment(debts)
    payment.fails = True
    with pytest.raises(L2Error):
        payment.pay()
    assert len(debts) == 1
    payment.fails = False
    assert payment.pay() == [("delete", ["a"])]


def test_too_many_keys_become_a_clear(debts):
    """Beyond the limit the whole cache goes, and each of its keys is concerned."""
    debts.owe([f"k{number}" for number in range(10)], PATTERN)
    assert len(debts) == 6
    assert debts.concern(["other", "p:any"])
    assert not debts.concern(["other"])
    assert Payment(debts).pay() == [
        ("clear", PATTERN),
        ("delete", [f"k{number}" for number in range(5)]),
    ]
    assert not debts
    assert debts.lost == 0


def test_too_many_keys_without_a_pattern(debts, caplog):
    """They are counted and reported, once, and nothing else is forgotten."""
    debts.owe([f"k{number}" for number in range(8)], None)
    assert debts.lost == 3
    assert len(caplog.records) == 1
    assert "k5" in caplog.text
    assert len(debts) == 5


def test_the_largest_debts_come_first(debts):
    """A flush, then clears, then keys."""
    debts.owe(["a"], PATTERN)
    debts.owe_clear(PATTERN)
    debts.owe_flush()
    assert Payment(debts).pay() == [
        ("flush", None),
        ("clear", PATTERN),
        ("delete", ["a"]),
    ]


def test_what_is_owed_during_the_payment_stays(debts):
    """A change that fails while its key is being deleted must be paid afterwards."""
    debts.owe(["a"], None)
    debts.owe_clear(PATTERN)
    debts.owe_flush()
    debts.pay(
        lambda _keys: debts.owe(["a"], None),
        debts.owe_clear,
        debts.owe_flush,
    )
    assert len(debts) == 3


def test_whoever_comes_meanwhile_waits(debts):
    """Two threads pay once, and both go on only when it is done."""
    debts.owe(["a"], None)
    begun, go_on = threading.Event(), threading.Event()
    order = []

    def delete(_keys):
        begun.set()
        go_on.wait(5)
        order.append("paid")

    def pay():
        debts.pay(delete, lambda _pattern: None, lambda: None)
        order.append("went on")

    threads = [threading.Thread(target=pay) for _ in range(2)]
    threads[0].start()
    begun.wait(5)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(5)
    assert order == ["paid", "went on", "went on"]
