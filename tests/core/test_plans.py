"""The plans of several steps, driven by hand: no store, no thread."""

from __future__ import annotations

import pytest

from cachebridge.core.entry import MISSING
from cachebridge.core.plans import clear_plan, incr_plan
from cachebridge.errors import MissingKeyError
from tests.core.support import drive


def test_incr_in_l2():
    """Redis adds where it can, zero included."""
    script = [(("incr_in_l2", "k", 0), 0)]
    assert drive(incr_plan("k", 0, integer=True), script) == 0


def test_incr_of_nothing():
    """A key that does not exist raises, naming it."""
    plan = incr_plan("k", 1, integer=True)
    plan.send(None)
    with pytest.raises(MissingKeyError, match="'k'"):
        plan.send(None)


def test_incr_by_compare_and_set():
    """What Redis cannot add is replaced until nobody was faster."""
    script = [
        (("incr_in_l2", "k", 1), "not an integer"),
        (("read_raw", "k"), b"1.5"),
        (("decode", "k", b"1.5"), 1.5),
        (("replace", "k", b"1.5", 2.5), False),
        (("read_raw", "k"), b"4.5"),
        (("decode", "k", b"4.5"), 4.5),
        (("replace", "k", b"4.5", 5.5), True),
    ]
    assert drive(incr_plan("k", 1, integer=True), script) == 5.5


@pytest.mark.parametrize("replies", [[None], [b"?", MISSING]])
def test_incr_of_what_vanished(replies):
    """Gone or unreadable in between: there is nothing to add to."""
    plan = incr_plan("k", 0.5, integer=False)
    plan.send(None)
    *first, last = replies
    for reply in first:
        plan.send(reply)
    with pytest.raises(MissingKeyError):
        plan.send(last)


def test_clear_walks_to_the_end():
    """Each batch is deleted with its message, none if empty; the prefix is last.

    A load record stands for its key.
    """
    script = [
        (("scan", "p:*", 0), (7, ["p:1", "p:2:cachebridge-load", "p:2"])),
        (("delete_many", ["p:1", "p:2"]), 2),
        (("scan", "p:*", 7), (9, [])),
        (("scan", "p:*", 9), (0, ["p:3"])),
        (("delete_many", ["p:3"]), 1),
        (("publish_prefix", "p:"), None),
    ]
    assert drive(clear_plan("p:*", "p:"), script) is None


def test_clear_of_keys_with_an_end():
    """Where the pattern goes on behind the key, load records are looked for apart."""
    script = [
        (("scan", "*:p", 0), (0, ["1:p"])),
        (("delete_many", ["1:p"]), 1),
        (("scan", "*:p:cachebridge-load", 0), (0, ["2:p:cachebridge-load"])),
        (("delete_many", ["2:p"]), 0),
        (("publish_prefix", ""), None),
    ]
    assert drive(clear_plan("*:p", ""), script) is None
