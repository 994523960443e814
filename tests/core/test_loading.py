"""The plans of several steps, driven by hand: no store, no thread."""

from __future__ import annotations

import pytest

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import clear_plan, incr_plan, load_plan
from cachebridge.errors import MissingKeyError


def drive(plan, script):
    """Send the scripted replies, checking each step; return the plan's result."""
    reply = None
    for expected, answer in script:
        step = plan.send(reply)
        assert (step.name, *step.args) == expected
        reply = answer
    with pytest.raises(StopIteration) as done:
        plan.send(reply)
    return done.value.value


def test_load_finds_it_in_l2():
    """What L2 has is not loaded."""
    assert drive(load_plan("k", 9), [(("read_raw", "k"), b"old")]) == b"old"


def test_load_adds():
    """What is loaded is added, so that an earlier writer would win."""
    script = [
        (("read_raw", "k"), None),
        (("load",), ("new", b"new")),
        (("add_encoded", "k", "new", b"new", 9), True),
    ]
    assert drive(load_plan("k", 9), script) == b"new"


@pytest.mark.parametrize(("winner", "result"), [(b"won", b"won"), (None, b"new")])
def test_load_that_lost(winner, result):
    """A writer that was faster wins; if its value has gone again, ours serves."""
    script = [
        (("read_raw", "k"), None),
        (("load",), ("new", b"new")),
        (("add_encoded", "k", "new", b"new", None), False),
        (("read_raw", "k"), winner),
    ]
    assert drive(load_plan("k", None), script) == result


def test_load_for_no_time():
    """A TTL that is over stores nothing and still gives the value."""
    script = [(("read_raw", "k"), None), (("load",), ("new", b"new"))]
    assert drive(load_plan("k", 0), script) == b"new"


def test_load_passes_the_loaders_error_on():
    """An exception thrown in at a step leaves the plan."""
    plan = load_plan("k", 9)
    plan.send(None)
    plan.send(None)
    with pytest.raises(ZeroDivisionError):
        plan.throw(ZeroDivisionError())


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
    """Each batch is deleted with its message, none if empty; the prefix is last."""
    script = [
        (("scan", "p:*", 0), (7, ["p:1", "p:2"])),
        (("delete_many", ["p:1", "p:2"]), 2),
        (("scan", "p:*", 7), (9, [])),
        (("scan", "p:*", 9), (0, ["p:3"])),
        (("delete_many", ["p:3"]), 1),
        (("publish_prefix", "p:"), None),
    ]
    assert drive(clear_plan("p:*", "p:"), script) is None
