"""The checker accuses exactly where no order of the writes explains a read."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from tests.proofs.processes.checker import check
from tests.proofs.processes.history import NEVER_ANSWERED, Log, Op, by_key, read_log
from tests.proofs.processes.timeline import SERVER, SETTLED_S, Fault, Timeline
from tests.proofs.processes.values import TAGGED, counter_base

KEY = "key"
BOUND_S = 1.0
BASE = counter_base(1, 1)


def write(
    value, begin, end, *, worker=1, kind="set", result=None, error="", called=None
):
    """One call that writes."""
    called = begin if called is None else called
    items = [(KEY, value)]
    return Op(worker, 0, kind, called, begin, end, items, result, error, is_write=True)


def lost(value, begin, end=None, *, worker=1, kind="set"):
    """A write that got no answer: an error at ``end``, or the process's death."""
    if end is None:
        return write(value, begin, NEVER_ANSWERED, worker=worker, kind=kind)
    return write(value, begin, end, worker=worker, kind=kind, error="timeout")


def read(seen, begin, end=None, *, worker=2, kind="get"):
    """One call that reads."""
    end = begin + 0.001 if end is None else end
    return Op(worker, 0, kind, begin, begin, end, [(KEY, seen)])


def rules(*ops, timeline=None, counter=False, start=0.0):
    """Return the names of the broken rules."""
    histories = by_key(ops)
    timeline = timeline or Timeline()
    for op in ops:
        timeline.lives.setdefault(op.worker, (op.worker, float("inf")))
    timeline.add_losses(histories, tuple(histories), start)
    timeline.settle(histories)
    verdict = check(histories, bound_s=BOUND_S, counters=(KEY,) if counter else ())
    return sorted({violation.rule for violation in verdict.violations})


# -- histories that are right ----------------------------------------------------------


@pytest.mark.parametrize(
    "ops",
    [
        pytest.param([read(None, 1)], id="absent at the start"),
        pytest.param([write(1, 1, 2), read(1, 3)], id="the last write"),
        pytest.param([write(1, 1, 2), read(1, 1.5)], id="a write under way"),
        pytest.param([write(1, 1, 2), read(None, 1.5)], id="not yet written"),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 4), read(1, 4.9)], id="old within the bound"
        ),
        pytest.param(
            [write(1, 1, 4), write(2, 2, 3), read(1, 9)], id="writes that overlap"
        ),
        pytest.param(
            [write(1, 1, 4), write(2, 2, 3), read(2, 8), read(1, 9, worker=3)],
            id="each of two overlapping writes seen within the bound",
        ),
        pytest.param(
            [lost(1, 1, 2), write(2, 3, 4), read(1, 4.5)], id="a write delivered late"
        ),
        pytest.param(
            [lost(1, 1), write(2, 3, 4), read(1, 99)], id="a write without an end"
        ),
        pytest.param(
            [write(1, 1, 2), lost(None, 3), read(None, 9)], id="a delete got through"
        ),
        pytest.param(
            [write(1, 1, 2), lost(None, 3), read(1, 9)], id="a delete got lost"
        ),
        pytest.param(
            [write(1, 1, 2), write(1, 3, 4, kind="add", result=False), read(1, 5)],
            id="an add that lost",
        ),
        pytest.param(
            [write(7, 2, 3, kind="load", result=7, called=1), read(7, 4)],
            id="a load",
        ),
        pytest.param(
            [write(1, 1, 2), write(7, 2.5, 3, kind="load", result=1), read(1, 4)],
            id="a load that met an earlier writer",
        ),
        pytest.param(
            [
                write(1, 1, 5),
                write(None, 3, 7, kind="delete"),
                write(7, 5.5, 6.5, kind="load", result=7, called=5.2),
                read(7, 5.3, 6.6, kind="load"),
                read(1, 6.7, kind="bypass"),
            ],
            id="the value of a load that was voided, shared by who waited for it",
        ),
        pytest.param(
            [
                write(1, 1, 2),
                write(2, 3, 4, worker=2),
                read(1, 3.5, 5),
                read(2, 4.5, worker=2),
            ],
            id="a read that began before the own write ended",
        ),
    ],
)
def test_histories_with_an_explanation(ops):
    """Nothing is said against a history that a coherent cache can produce."""
    assert rules(*ops) == []


# -- histories that are wrong ----------------------------------------------------------


@pytest.mark.parametrize(
    ("ops", "rule"),
    [
        pytest.param([read(5, 1)], "never-written", id="out of nowhere"),
        pytest.param(
            [read(1, 1, 2), write(1, 3, 4)], "never-written", id="from the future"
        ),
        pytest.param(
            [write(7, 2, 3, kind="load", result=8)], "never-written", id="loaded"
        ),
        pytest.param(
            [write(5, 1, 2, kind="add", result=False), read(5, 3)],
            "never-written",
            id="the value of an add that lost",
        ),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 4), read(1, 5.1)], "too-old", id="too old"
        ),
        pytest.param(
            [write(1, 1, 2), write(None, 3, 4, kind="delete"), read(1, 5.1)],
            "too-old",
            id="deleted too long ago",
        ),
        pytest.param(
            [write(1, 1, 2), lost(2, 3), read(2, 4, worker=3), read(1, 5.1)],
            "too-old",
            id="a lost write was seen, so it took place",
        ),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 4), read(1, 5.1, kind="load")],
            "too-old",
            id="the load of a follower",
        ),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 4, worker=2), read(1, 4.1)],
            "went-back",
            id="not its own write",
        ),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 3.9), read(2, 4), read(1, 4.1)],
            "went-back",
            id="back to the older",
        ),
        pytest.param(
            [write(1, 1, 2), lost(2, 3), read(2, 4), read(1, 4.1)],
            "went-back",
            id="older than a lost write that was seen",
        ),
        pytest.param(
            [
                write(1, 1, 2),
                write(None, 3, 3.9, kind="delete"),
                read(None, 4),
                read(1, 4.1),
            ],
            "went-back",
            id="older than a delete",
        ),
        pytest.param(
            [write(1, 1, 2), read(None, 3)], "strict", id="absent without a delete"
        ),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 4), read(1, 4.1, kind="bypass")],
            "strict",
            id="past L1 and still old",
        ),
        pytest.param(
            [write(1, 1, 2), write(2, 3, 4, worker=2, kind="add", result=True)],
            "strict",
            id="an add won over a value",
        ),
        pytest.param(
            [write(2, 3, 4, kind="add", result=False)],
            "never-written",
            id="an add that lost to no write",
        ),
        pytest.param(
            [
                write(1, 1, 2),
                write(None, 3, 4, kind="delete"),
                read("present", 5, kind="touch"),
            ],
            "strict",
            id="touched what was deleted",
        ),
    ],
)
def test_histories_without_an_explanation(ops, rule):
    """Each kind of violation is found and named."""
    assert rules(*ops) == [rule]


# -- values with tags ------------------------------------------------------------------

INVALIDATED = write(None, 3, 4, kind="invalidate", worker=5)


@pytest.mark.parametrize(
    ("ops", "untagged"),
    [
        pytest.param(
            [write(1, 5, 6), read(None, 7, kind="bypass")],
            ["strict"],
            id="set under a stamp that another process has deleted",
        ),
        pytest.param(
            [write(1, 5, 6), read(1, 6.1), read(None, 6.2), read(None, 9)],
            ["strict", "went-back"],
            id="valid for those alone that have not heard of the invalidation",
        ),
        pytest.param(
            [lost(1, 5, 6), read(1, 6.1), read(None, 6.2, worker=3)],
            ["strict"],
            id="stored, though it got no answer, under such a stamp",
        ),
        pytest.param(
            [write(1, 1, 2), read("present", 4.5, kind="touch")],
            ["strict"],
            id="touched by who has not heard of the invalidation",
        ),
        pytest.param(
            [write(1, 1, 2), write(None, 5, 6, kind="delete", result=True)],
            ["strict"],
            id="an invalid value that was deleted",
        ),
    ],
)
def test_histories_of_tagged_values_with_an_explanation(ops, untagged):
    """What another value could not do, a tagged one can."""
    assert rules(INVALIDATED, *ops) == untagged
    assert rules(*map(tagged, (INVALIDATED, *ops))) == []


@pytest.mark.parametrize(
    ("ops", "rule"),
    [
        pytest.param([read(1, 5.1)], "too-old", id="past the bound"),
        pytest.param([read(1, 4.1, worker=5)], "went-back", id="its own invalidation"),
        pytest.param([read(1, 4.1, kind="bypass")], "strict", id="past L1"),
        pytest.param(
            [write(2, 4, 4.5, kind="add", result=True), read(1, 4.6, worker=1)],
            "went-back",
            id="older than an own add",
        ),
        pytest.param(
            [write(2, 4.1, 4.2, worker=3), read(1, 4.3, worker=3)],
            "went-back",
            id="not its own value",
        ),
        pytest.param(
            [write(2, 5, 6), read(2, 7, worker=3), read(1, 7.1, worker=3)],
            "too-old",
            id="back to the invalid value",
        ),
        pytest.param(
            [read(2, 4.1, kind="bypass")], "never-written", id="out of nowhere"
        ),
    ],
)
def test_histories_of_tagged_values_without_an_explanation(ops, rule):
    """To invalidate a tag is to delete its value, and a set leaves no older one."""
    ops = [write(1, 1, 2, worker=2), INVALIDATED, *ops]
    assert rule in rules(*map(tagged, ops))


def tagged(op):
    """The same call of a key whose values have a tag."""
    (item,) = op.items
    return replace(op, items=[(TAGGED[0], item[1])])


# -- counters --------------------------------------------------------------------------


def increment(count, begin, end, *, worker=1):
    """An increment that returned ``count``."""
    return write(1, begin, end, kind="incr", result=count, worker=worker)


def test_counters():
    """Increments count up from what was there; a lost one may or may not have."""
    start = write(BASE, 1, 2)
    assert rules(start, increment(BASE + 1, 3, 4), counter=True) == []
    late = [start, lost(1, 3, 3.5, kind="incr"), increment(BASE + 2, 4, 5)]
    assert rules(*late, read(BASE + 2, 6), counter=True) == []
    assert rules(start, read(BASE + 1, 3), counter=True) == ["never-written"]


def test_an_increment_that_got_lost():
    """Two increments never return the same, and none forgets the one before."""
    ops = [write(BASE, 1, 2), increment(BASE + 1, 3, 4)]
    ops.append(increment(BASE + 1, 5, 6, worker=2))
    assert rules(*ops, counter=True) == ["lost-increment", "strict"]


# -- what faults excuse ----------------------------------------------------------------


def test_a_server_that_lost_its_data():
    """After an empty restart absent is right, and the old value is so for the bound."""
    timeline = Timeline(deaths=[3.1])
    ops = [write(1, 1, 2), read(1, 4.0), read(None, 3.05, 3.2, worker=3)]
    assert rules(*ops, timeline=timeline) == []
    assert rules(write(1, 1, 2), read(1, 4.2), timeline=timeline) == ["too-old"]
    ops = [write(1, 1, 2), read(None, 3.5), read(1, 3.6)]
    assert rules(*ops, timeline=timeline) == ["went-back"]


def test_a_lost_write_ends_when_nothing_holds_it_back():
    """It may come for as long as a fault lasts and a little longer, then never."""
    held = Fault("late_write", 1, 1.5, 6.0, holds_back=True)
    other = Fault("late_write", 7, 6.5, 60.0, holds_back=True)
    timeline = Timeline(faults=[held, other])
    ops = [lost(1, 1, 2), write(2, 3, 4), write(3, 8, 9)]
    assert rules(*ops, read(1, 9.5), timeline=timeline) == []
    assert rules(*ops, read(1, 11), timeline=timeline) == ["too-old"]
    held_longer = Fault("pause", SERVER, 6.0 + SETTLED_S / 2, 8.5, holds_back=True)
    timeline = Timeline(faults=[held, held_longer])
    assert rules(*ops, read(1, 11), timeline=timeline) == []


def test_a_lost_write_dies_with_the_server():
    """What was on its way to a server that is dead does not reach the next one."""
    held = Fault("late_write", 1, 1.5, 60.0, holds_back=True)
    timeline = Timeline(faults=[held], deaths=[3.1])
    ops = [lost(1, 1, 2), write(2, 4, 5)]
    assert rules(*ops, read(1, 4.0, worker=3), timeline=timeline) == []
    assert rules(*ops, read(1, 4.2, worker=3), timeline=timeline) == ["too-old"]


def test_any_sequential_history_is_right():
    """One after the other on one process is right in every order of the calls."""
    for kinds in itertools.product(("write", "delete", "read"), repeat=4):
        current, ops = None, []
        for number, kind in enumerate(kinds):
            at = 10.0 * number + 1
            if kind == "read":
                ops.append(read(current, at, worker=1))
            elif kind == "write":
                current = number
                ops.append(write(number, at, at + 1))
            else:
                existed, current = current is not None, None
                ops.append(write(None, at, at + 1, kind="delete", result=existed))
        assert rules(*ops) == [], kinds


# -- the log ---------------------------------------------------------------------------


def test_a_log_survives_its_process(tmp_path):
    """What was intended stands in the file though no answer and no close came."""
    path = tmp_path / "1.0.log"
    log = Log(path)
    log.intend("set", 1.0, [("a", 1)])
    log.answer(2.0, None)
    log.read("get", 3.0, 4.0, [("a", 1)])
    log.intend("set_many", 5.0, [("a", 2), ("b", 3)])
    log.close()
    done, seen, cut_off = read_log(path, 1, 0)
    assert done.is_sure
    assert not seen.is_write
    assert cut_off.items == [("a", 2), ("b", 3)]
    assert cut_off.end == NEVER_ANSWERED
    assert not cut_off.is_sure


def test_a_torn_last_line_is_left_out(tmp_path):
    """A process killed while it wrote a line has not begun that call."""
    path = tmp_path / "1.0.log"
    whole = json.dumps(["r", "get", 1.0, 2.0, [["a", None]]])
    path.write_text(f"{whole}\n" + whole[:9])
    assert len(list(read_log(path, 1, 0))) == 1
