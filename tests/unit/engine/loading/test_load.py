"""The order of a load's steps, driven by a script: no store, no thread."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cachebridge.core.entry import ABSENT, MISSING
from cachebridge.core.lease import LeaseGet, LeaseState, LoadReply
from cachebridge.core.loading import (
    LoaderError,
    LoadTerms,
    Outcome,
    Result,
    poll_s,
)
from cachebridge.engine.loading.load import Load
from cachebridge.engine.loading.single_flight import SingleFlight
from cachebridge.engine.tagging.stamps import UNTAGGED
from cachebridge.errors import L2Error
from cachebridge.waiting.guard import Guard
from cachebridge.waiting.io import THREADS
from cachebridge.waiting.run import run

TERMS = LoadTerms(lease_ms=9, stale_ms=50, stale_if_error_ms=70, negative_ms=5)
ASK = ("get_or_lease", TERMS.for_lease())
REFRESH = ("get_or_lease", TERMS.for_lease(is_refresh=True))
LEASE = LeaseGet(LeaseState.LEASE, generation=b"g", token=b"t")
RESULT = Result("new", b"new", 100, 7)
STORED = LoadReply(stored=True)
FAILED = Result(error=ZeroDivisionError())
NEW = Outcome(b"new", MISSING)
FLIGHTS = SingleFlight()


class Undisturbed(Guard):
    """Watches nothing."""

    def is_undisturbed(self, **_how):
        return True


class ScriptedLoad(Load):
    """A load whose steps check that they are expected, and do what the script says."""

    def __init__(self, script, *, degrades=False, ttl_ms=100, failure=None):
        self._script = iter(script)
        self._operations = SimpleNamespace(degrades=degrades)
        self._engine = SimpleNamespace(outage=SimpleNamespace(note=self._note))
        self._io = THREADS
        self._lease = None
        self._watch = Undisturbed()
        self.key = "k"
        self.terms = TERMS
        self.ttl_ms = ttl_ms
        self._failure = failure

    def _tick_of_request(self):
        return self._shared.tick()

    def _next(self, *step):
        expected, answer = next(self._script)
        assert step == expected
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _note(self, exc, _kind):
        self._next("note", exc)

    async def begin_tags(self, lease):
        """Read no stamps: the load has no tags."""

    async def end_tags(self):
        return UNTAGGED

    def consider_refresh(self, lease):
        self._next("consider_refresh", lease)

    def ends(self):
        assert next(self._script, None) is None


def _step(name):
    async def step(self, *args):
        return self._next(name, *[each for each in args if each is not UNTAGGED])

    return step


for name in (
    *("get_or_lease", "read_raw", "wait", "load", "load_without_l2"),
    *("store_loaded", "release", "release_unshared"),
):
    setattr(ScriptedLoad, name, _step(name))


def play(script, **options):
    """Run a load by the script, to its end; return its outcome."""
    load = ScriptedLoad(script, **options)
    try:
        return run(load.lead(FLIGHTS.alone("k", 0)))
    finally:
        load.ends()


def refresh(script, seen_ttl_ms=40):
    """Run a refresh by the script, to its end."""
    load = ScriptedLoad(script)
    load._shared = FLIGHTS.alone("k", 0)
    run(load.run_refresh(seen_ttl_ms))
    load.ends()


def test_what_l2_has_is_not_loaded():
    """A value comes back, with the copy that was decoded already."""
    hit = LeaseGet(LeaseState.HIT, b"old", 80, value="old")
    script = [(ASK, hit), (("consider_refresh", hit), None)]
    assert play(script) == Outcome(b"old", "old")


def test_what_was_unreadable_is_looked_at_again():
    """It has been deleted: now it can be loaded."""
    script = [
        (ASK, None),
        (ASK, LEASE),
        (("load",), RESULT),
        (("store_loaded", RESULT, LEASE), STORED),
    ]
    assert play(script) == NEW


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
        (ASK, LEASE),
        (("load",), RESULT),
        (("store_loaded", RESULT, LEASE), reply),
    ]
    assert play(script) == outcome


def test_waiting_for_another_process():
    """Who does not get the lease waits, and looks again, as often as need be."""
    busy = LeaseGet(LeaseState.BUSY, wait_ms=1500)
    hit = LeaseGet(LeaseState.HIT, b"theirs", 80, value="theirs")
    script = [
        (ASK, busy),
        (("wait", 1.5, 0), None),
        (ASK, busy),
        (("wait", 1.5, 1), None),
        (ASK, hit),
        (("consider_refresh", hit), None),
    ]
    assert play(script) == Outcome(b"theirs", "theirs")


def test_a_value_that_only_others_can_read_is_loaded_beside_it():
    """What the loader returns serves those who asked; nothing is stored."""
    unreadable = LeaseGet(LeaseState.HIT, b"theirs", 80)
    assert play([(ASK, unreadable), (("load",), RESULT)]) == NEW


def test_a_stale_copy_serves_and_is_refreshed():
    """No caller waits for the refresh."""
    stale = LeaseGet(LeaseState.STALE, b"old", 0)
    script = [(ASK, stale), (("consider_refresh", stale), None)]
    assert play(script).raw == b"old"


def test_a_copy_serves_while_loads_fail():
    """Another process has tried and failed: its lease keeps the others from trying."""
    busy = LeaseGet(LeaseState.BUSY, b"old", wait_ms=1500)
    assert play([(ASK, busy)]).raw == b"old"


def test_no_such_thing():
    """A negative answer of L2, or of the loader, is shared like any other."""
    absent = LeaseGet(LeaseState.ABSENT, ttl_ms=5, value=ABSENT)
    assert play([(ASK, absent)]) == Outcome(None, ABSENT)
    nothing = Result(ABSENT)
    script = [
        (ASK, LEASE),
        (("load",), nothing),
        (("store_loaded", nothing, LEASE), STORED),
    ]
    assert play(script) == Outcome(None, ABSENT)


def test_a_value_for_one_caller():
    """It is not stored, and tells the others that they have to load themselves."""
    mine = Result("mine", is_shared=False)
    script = [
        (ASK, LEASE),
        (("load",), mine),
        (("release_unshared", LEASE), None),
    ]
    assert play(script) == Outcome(None, "mine", is_shared=False)


def test_a_failed_load_gives_the_lease_back():
    """The loader's exception comes out, whatever its type."""
    for error in (ZeroDivisionError(), StopIteration(), KeyboardInterrupt()):
        failed = Result(error=error)
        script = [(ASK, LEASE), (("load",), failed)]
        if isinstance(error, Exception):  # else ``lead`` gives it back
            script.append((("release", LEASE, 70), None))
        with pytest.raises(LoaderError) as raised:
            play(script)
        assert raised.value.error is error


def test_stale_if_error():
    """A copy that is young enough serves instead of the exception."""
    script = [
        (ASK, LEASE),
        (("load",), FAILED),
        (("release", LEASE, 70), b"old"),
    ]
    assert play(script) == Outcome(b"old", MISSING)


def test_nothing_to_store():
    """A TTL that is over needs no lease, stores nothing and still gives the value."""
    script = [(("read_raw",), None), (("load",), RESULT)]
    assert play(script, ttl_ms=0) == NEW
    assert play([(("read_raw",), b"old")], ttl_ms=0).raw == b"old"


def test_without_l2():
    """If L2 fails before the load, the loader runs without it, once."""
    failure = L2Error("away")
    script = [
        (ASK, failure),
        (("note", failure), None),
        (("load_without_l2",), RESULT),
    ]
    assert play(script, degrades=True) == NEW
    assert play(script[1:], degrades=True, failure=failure) == NEW
    with pytest.raises(L2Error):
        play(script[:1])


def test_l2_fails_after_the_load():
    """What was loaded serves: the loader does not run again."""
    failure = L2Error("away")
    script = [
        (ASK, LEASE),
        (("load",), RESULT),
        (("store_loaded", RESULT, LEASE), failure),
        (("note", failure), None),
    ]
    assert play(script, degrades=True) == NEW
    with pytest.raises(L2Error):
        play(script[:3])


def test_a_failed_load_without_l2():
    """Then nothing is left to serve."""
    failure = L2Error("away")
    script = [
        (ASK, failure),
        (("note", failure), None),
        (("load_without_l2",), FAILED),
    ]
    with pytest.raises(LoaderError):
        play(script, degrades=True)


def test_refresh():
    """A value past its TTL, or as near to it as when it was looked at, is loaded."""
    for lease in (LEASE, LEASE._replace(raw=b"old", ttl_ms=40)):
        script = [
            (REFRESH, lease),
            (("load",), RESULT),
            (("store_loaded", RESULT, lease), STORED),
        ]
        refresh(script)


def test_refresh_that_is_done():
    """Another process has refreshed the entry, or is doing so."""
    refresh([(REFRESH, LeaseGet(LeaseState.BUSY, wait_ms=5))])
    for ttl_ms in (41, -1):
        lease = LEASE._replace(raw=b"newer", ttl_ms=ttl_ms)
        script = [(REFRESH, lease), (("release", lease, 0), None)]
        refresh(script)


def test_polling():
    """Without a bus one looks again soon, and then less often."""
    waits = [poll_s(attempt, has_bus=False) for attempt in range(6)]
    assert waits == [0.01, 0.02, 0.04, 0.08, 0.1, 0.1]
    assert poll_s(0, has_bus=True) == 1.0
