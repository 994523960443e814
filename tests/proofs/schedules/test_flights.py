"""Every order of three callers of a key: bounded waits, shared failures (I24, I25).

The callers run in greenlets that come back at each wait and at each load.  A schedule
is a list of steps: the number of the caller that goes on.  One that waits goes on when
its signal is set, or else its time passes.
"""

from __future__ import annotations

import pytest
from greenlet import GreenletExit, greenlet

from cachebridge.core.entry import MISSING
from cachebridge.core.loading import LoaderError, Outcome
from cachebridge.engine.loading.single_flight import SharedLoad, SingleFlight
from cachebridge.waiting.io import ThreadIO
from cachebridge.waiting.run import run

CALLERS = 3
PATIENCE_S = 3.0
MOST_STEPS = 30


class Caller:
    """Asks once; ``ending`` is how its own loader ends."""

    def __init__(self, world, ending):
        self.world = world
        self.ending = ending
        self.loads = 0
        self.result = None
        self.is_loading = False
        self.is_late = False
        """Whether it has begun a wait that ends after its patience."""
        self.deadline = 0.0
        self.greenlet = greenlet(self._ask)

    def _ask(self):
        world = self.world
        self.deadline = world.now + PATIENCE_S
        try:
            outcome, _ = run(world.flights.run("k", self._lead, world, PATIENCE_S))
            self.result = outcome.raw
        except LoaderError as exc:
            self.result = exc.error
        except GreenletExit as exc:
            self.result = exc

    async def _lead(self, load):
        self.loads += 1
        self.is_loading = True
        self.greenlet.parent.switch()
        self.is_loading = False
        load.as_of = load.tick()
        if self.ending == "fails":
            raise LoaderError(LookupError("down"))
        if self.ending == "dies":
            raise GreenletExit
        return Outcome(b"value", MISSING)

    def can_go_on(self):
        return not self.greenlet.dead and not (
            self.is_loading and self.ending == "hangs"
        )


class World(ThreadIO):
    """A clock, the flights, and the callers; also how the callers wait."""

    def __init__(self, endings):
        self.now = 0.0
        self.flights = SingleFlight(lambda: self.now)
        self.callers = [Caller(self, ending) for ending in endings]
        self.running = None

    async def wait(self, signal, timeout_s=None):
        caller, until = self.running, self.now + timeout_s
        caller.is_late |= until > max(self.now, caller.deadline)
        caller.greenlet.parent.switch()
        if not signal.is_set():
            self.now = max(self.now, until)
        return signal.is_set()

    def step(self, number):
        self.running = self.callers[number]
        self.running.greenlet.switch()

    def close(self):
        for caller in self.callers:
            if caller.greenlet:
                caller.greenlet.throw()


def all_ends(endings):
    """Yield the world at the end of each schedule; each caller's steps are few."""
    todo = [()]
    while todo:
        path = todo.pop()
        assert len(path) < MOST_STEPS, f"I24: a caller waits for ever, {path}"
        world = World(endings)
        for number in path:
            world.step(number)
        able = [n for n, caller in enumerate(world.callers) if caller.can_go_on()]
        if able:
            todo += [(*path, number) for number in able]
        else:
            yield world
        world.close()


def check(endings):
    """Check every end; return how many there are."""
    ends = 0
    for world in all_ends(endings):
        ends += 1
        for caller in world.callers:
            assert caller.greenlet.dead or caller.ending == "hangs"
            assert not caller.is_late, "I24: a caller waits too long"
            if caller.ending != "dies" and caller.greenlet.dead:
                assert not isinstance(caller.result, GreenletExit), "I25: not its death"
        if set(endings) == {"fails"}:
            errors = [caller.result for caller in world.callers]
            assert len(set(map(id, errors))) == CALLERS, "I25: one traceback for two"
        if all(caller.greenlet.dead for caller in world.callers):
            assert world.flights.is_idle()
    return ends


def queued(endings):
    """Return each caller's loads where those that can wait do so before a load ends."""
    world = World(endings)
    for number in range(CALLERS):
        world.step(number)
    while able := [caller for caller in world.callers if caller.can_go_on()]:
        loading = next((caller for caller in able if caller.is_loading), None)
        if loading is not None:
            world.step(world.callers.index(loading))
        for caller in able:
            if caller is not loading and caller.can_go_on():
                world.step(world.callers.index(caller))
    loads = [caller.loads for caller in world.callers]
    world.close()
    return loads


ENDINGS = [
    ("fails", "fails", "fails"),
    ("dies", "succeeds", "fails"),
    ("hangs", "succeeds", "fails"),
    ("fails", "hangs", "dies"),
]


@pytest.mark.proof
@pytest.mark.parametrize("endings", ENDINGS, ids="-".join)
def test_no_order_breaks_a_promise(endings):
    """No caller waits past its patience, and each gets what it is to get."""
    assert check(endings) > 5


def test_those_that_waited_share_the_failure():
    """And run no loader; after a death the next one does, for the others."""
    assert queued(("fails", "fails", "fails")) == [1, 0, 0]
    assert sum(queued(("dies", "succeeds", "succeeds"))) == 2


def test_a_mutant_that_waits_for_ever(monkeypatch):
    """Without the bound a schedule is found in which a caller never ends."""
    monkeypatch.setattr(SingleFlight, "patience_s", lambda *_load: 1.0)
    with pytest.raises(AssertionError, match="I24"):
        check(("hangs", "succeeds", "fails"))


def test_a_mutant_that_shares_no_failure(monkeypatch):
    """Without the shared failure each caller runs its loader in turn."""
    end = SharedLoad.__exit__

    def forget(self, _kind, _error, _tb):
        end(self, None, None, None)

    monkeypatch.setattr(SharedLoad, "__exit__", forget)
    assert queued(("fails", "fails", "fails")) == [1, 1, 1]
