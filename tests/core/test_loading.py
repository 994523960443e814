"""The plans that load values, driven by hand: no store, no thread."""

from __future__ import annotations

import pytest

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import LoadReply, Look, LookState
from cachebridge.core.loading import (
    LoaderError,
    LoadTerms,
    Outcome,
    Result,
    load_plan,
    poll_s,
    refresh_plan,
)
from cachebridge.errors import L2Error
from tests.core.support import drive

TERMS = LoadTerms(lease_ms=9, stale_ms=50, stale_if_error_ms=70, negative_ms=5)
LOOK = ("look", "k", TERMS.look())
REFRESH = ("look", "k", TERMS.look(is_refresh=True))
LEASE = Look(LookState.LEASE, generation=b"g", token=b"t")
RESULT = Result("new", b"new", 100, 7)
STORED = LoadReply(stored=True)
FAILED = Result(error=ZeroDivisionError())
NEW = Outcome(b"new", MISSING)


def plan(*, degrades=False, ttl_ms=100, failure=None):
    return load_plan("k", ttl_ms, TERMS, degrades=degrades, failure=failure)


def test_what_l2_has_is_not_loaded():
    """A value comes back, with the copy that was decoded already."""
    hit = Look(LookState.HIT, b"old", 80, value="old")
    script = [(LOOK, hit), (("consider_refresh", "k", hit, TERMS), None)]
    assert drive(plan(), script) == Outcome(b"old", "old")


def test_what_was_unreadable_is_looked_at_again():
    """It has been deleted: now it can be loaded."""
    script = [
        (LOOK, None),
        (LOOK, LEASE),
        (("load",), RESULT),
        (("store_loaded", "k", RESULT, TERMS, LEASE), STORED),
    ]
    assert drive(plan(), script) == NEW


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (STORED, NEW),
        (LoadReply(False, b"won", 9), Outcome(b"won", MISSING)),
        (LoadReply(False, None), NEW),
    ],
)
def test_a_writer_that_was_faster_wins(reply, outcome):
    """If its value has gone again, the loaded one serves those who asked for it."""
    script = [
        (LOOK, LEASE),
        (("load",), RESULT),
        (("store_loaded", "k", RESULT, TERMS, LEASE), reply),
    ]
    assert drive(plan(), script) == outcome


def test_waiting_for_another_process():
    """Who does not get the lease waits, and looks again, as often as need be."""
    busy = Look(LookState.BUSY, wait_ms=1500)
    hit = Look(LookState.HIT, b"theirs", 80)
    script = [
        (LOOK, busy),
        (("wait", 1.5, 0), None),
        (LOOK, busy),
        (("wait", 1.5, 1), None),
        (LOOK, hit),
        (("consider_refresh", "k", hit, TERMS), None),
    ]
    assert drive(plan(), script) == Outcome(b"theirs", MISSING)


def test_a_stale_copy_serves_and_is_refreshed():
    """Nobody waits for the refresh."""
    stale = Look(LookState.STALE, b"old", 0)
    script = [(LOOK, stale), (("consider_refresh", "k", stale, TERMS), None)]
    assert drive(plan(), script).raw == b"old"


def test_a_copy_serves_while_loads_fail():
    """Another process has tried and failed: its lease keeps the others from trying."""
    busy = Look(LookState.BUSY, b"old", wait_ms=1500)
    assert drive(plan(), [(LOOK, busy)]).raw == b"old"


def test_no_such_thing():
    """A negative answer of L2, or of the loader, is shared like any other."""
    absent = Look(LookState.ABSENT, ttl_ms=5)
    assert drive(plan(), [(LOOK, absent)]) == Outcome(None, ABSENT)
    nothing = Result(ABSENT)
    script = [
        (LOOK, LEASE),
        (("load",), nothing),
        (("store_loaded", "k", nothing, TERMS, LEASE), STORED),
    ]
    assert drive(plan(), script) == Outcome(None, ABSENT)


def test_a_value_for_one_caller():
    """It is not stored, and tells the others that they have to load themselves."""
    mine = Result("mine", is_shared=False)
    script = [
        (LOOK, LEASE),
        (("load",), mine),
        (("release_unshared", "k", LEASE, 9), None),
    ]
    assert drive(plan(), script) == Outcome(None, "mine", is_shared=False)


def test_a_failed_load_gives_the_lease_back():
    """The loader's exception comes out, whatever its type."""
    for error in (ZeroDivisionError(), StopIteration(), KeyboardInterrupt()):
        failed = Result(error=error)
        keep_ms = 70 if isinstance(error, Exception) else 0
        script = [
            (LOOK, LEASE),
            (("load",), failed),
            (("release", "k", LEASE, keep_ms), None),
        ]
        with pytest.raises(LoaderError) as raised:
            drive(plan(), script)
        assert raised.value.error is error


def test_stale_if_error():
    """A copy that is young enough serves instead of the exception."""
    script = [
        (LOOK, LEASE),
        (("load",), FAILED),
        (("release", "k", LEASE, 70), b"old"),
    ]
    assert drive(plan(), script) == Outcome(b"old", MISSING)


def test_nothing_to_store():
    """A TTL that is over needs no lease, stores nothing and still gives the value."""
    script = [(("read_raw", "k"), None), (("load",), RESULT)]
    assert drive(plan(ttl_ms=0), script) == NEW
    assert drive(plan(ttl_ms=0), [(("read_raw", "k"), b"old")]).raw == b"old"


def test_without_l2():
    """If L2 fails before the load, the loader runs without it, once."""
    failure = L2Error("away")
    script = [
        (LOOK, failure),
        (("note_outage", failure), None),
        (("load_away", "k"), RESULT),
    ]
    assert drive(plan(degrades=True), script) == NEW
    assert drive(plan(degrades=True, failure=failure), script[1:]) == NEW
    with pytest.raises(L2Error):
        drive(plan(), script[:1])


def test_l2_fails_after_the_load():
    """What was loaded serves: the loader does not run again."""
    failure = L2Error("away")
    script = [
        (LOOK, LEASE),
        (("load",), RESULT),
        (("store_loaded", "k", RESULT, TERMS, LEASE), failure),
        (("note_outage", failure), None),
    ]
    assert drive(plan(degrades=True), script) == NEW
    with pytest.raises(L2Error):
        drive(plan(), script[:3])


def test_a_failed_load_without_l2():
    """Then nothing is left to serve."""
    failure = L2Error("away")
    script = [
        (LOOK, failure),
        (("note_outage", failure), None),
        (("load_away", "k"), FAILED),
    ]
    with pytest.raises(LoaderError):
        drive(plan(degrades=True), script)


def test_refresh():
    """A value past its TTL, or as near to it as when it was looked at, is loaded."""
    for look in (LEASE, LEASE._replace(raw=b"old", ttl_ms=40)):
        script = [
            (REFRESH, look),
            (("load",), RESULT),
            (("store_loaded", "k", RESULT, TERMS, look), STORED),
        ]
        drive(refresh_plan("k", TERMS, 40), script)


def test_refresh_that_is_done():
    """Somebody was faster, or is about to be."""
    drive(refresh_plan("k", TERMS, 40), [(REFRESH, Look(LookState.BUSY, wait_ms=5))])
    for ttl_ms in (41, -1):
        look = LEASE._replace(raw=b"newer", ttl_ms=ttl_ms)
        script = [(REFRESH, look), (("release", "k", look, 0), None)]
        drive(refresh_plan("k", TERMS, 40), script)


def test_polling():
    """Without a bus one looks again soon, and then less often."""
    waits = [poll_s(attempt, has_bus=False) for attempt in range(6)]
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1]
    assert poll_s(0, has_bus=True) == 1.0
