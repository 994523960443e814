"""Every order of failed changes, late deletes and other writes: I28.

A process whose change failed owes a delete.  Whenever it comes back, what others were
told is stored stays, and what was there before is gone.  Real engines ask a real Redis;
a failed change reaches it never, or late (``G``).
"""

from __future__ import annotations

import time
from itertools import count

import pytest

from cachebridge.engine.outage.replay import Replay
from cachebridge.errors import L2UnavailableError
from cachebridge.l2.redis import scripts, write_log
from cachebridge.waiting.run import run
from tests.proofs.schedules.orders import orders
from tests.proofs.schedules.test_companions import rewritten
from tests.rig import engine_of, lone_cache, pending_deletes_of

pytestmark = pytest.mark.proof
STEP_S = 2 * write_log.TOGETHER_S
"""What is not apart by so much counts as written later, and stays."""
_numbers = count()


class Process:
    """One process, whose link to Redis fails when the schedule says so."""

    def __init__(self, url):
        self.cache = lone_cache(url, l1_max_entries=0, breaker_failures=0)
        engine = engine_of(self.cache)
        engine.catch_up_in_background = lambda: None  # a heartbeat would, at any time
        self._client = engine.l2.client
        self._client.run = self._run
        self.is_away = False
        self.late = []
        """What it has sent in vain, and the server may get yet."""

    async def _run(self, request, read, **options):
        if self.is_away:
            self.late.append((request, read))
            raise L2UnavailableError("away")
        return await type(self._client).run(self._client, request, read, **options)

    def fail(self, change, key, new):
        """Make a change in vain; a delete is pending from then on."""
        self.late.clear()
        self.is_away = True
        change(self.cache, key, new)
        self.is_away = False
        assert pending_deletes_of(self.cache).concern((key,))

    def arrive_late(self):
        """Have the server carry out what it did not get."""
        for request, read in self.late:
            run(type(self._client).run(self._client, request, read))
        self.late.clear()

    def read(self, key):
        """Return what the server has."""
        return self.cache.get(key)


class World:
    """One schedule on a key of its own, which has a value before."""

    def __init__(self, processes, programs):
        self.processes = processes
        self.left = [iter(program) for program in programs]
        self.key = f"confirmed-{next(_numbers)}"
        self.now = 0
        self.failed = {}
        """When the change of a process failed whose delete is pending, in steps."""
        self.late = {}
        """What its change would have stored."""
        self.written = {}
        """When the value of a process was written last."""
        self.value = self.new_value()
        processes[-1].cache.set(self.key, self.value)
        time.sleep(STEP_S)

    def new_value(self):
        return f"value {next(_numbers)}"

    def pay(self, index):
        """Note what a late delete has to do."""
        failed = self.failed.pop(index, 0)
        others = [at for by, at in self.written.items() if by != index]
        if failed and max(others, default=0) < failed:
            self.value = None

    def step(self, index):
        """Let one process take its next step, and look at the key."""
        self.now += 1
        process, key, new = self.processes[index], self.key, self.new_value()
        letter = next(self.left[index])
        if letter in "FD":
            self.failed[index] = self.now
            self.late[index] = new if letter == "F" else None
            process.fail(CHANGES[letter], key, new)
        elif letter == "G":
            self.value = self.late[index]
            if self.value is not None:
                self.written[index] = self.failed[index]
            process.arrive_late()
        else:
            self.pay(index)
            if letter in "WMA" and (letter != "A" or self.value is None):
                self.value, self.written[index] = new, self.now
            elif letter == "X":
                self.value = None
            CHANGES[letter](process.cache, key, new)
        time.sleep(STEP_S)
        found = self.processes[-1].read(key)
        assert found == self.value, f"I28: {found}, not {self.value}"


CHANGES = {
    "F": lambda cache, key, new: cache.set(key, new),
    "D": lambda cache, key, _new: cache.delete(key),
    "W": lambda cache, key, new: cache.set(key, new),
    "M": lambda cache, key, new: cache.set_many({key: new, f"{key}-too": new}),
    "A": lambda cache, key, new: cache.add(key, new),
    "X": lambda cache, key, _new: cache.delete(key),
    "P": lambda cache, key, _new: cache.get(key),
}
"""F and D fail, G is their late arrival; P is a call that carries a delete out."""

SCENARIOS = [
    ("FP", "WW"),
    ("DP", "WX"),
    ("FP", "MA"),
    ("FWP", "W"),
    ("FGP", "W"),
    ("DGP", "WA"),
    ("FP", "FP", "W"),
    ("FP", "DWP", "W"),
    ("FGP", "FP", "W"),
]


def explore(url, programs):
    """Take every order; return how many there are."""
    processes = [Process(url) for _ in (*programs, "last")]
    schedules = 0
    for order in orders([len(program) for program in programs]):
        schedules += 1
        world = World(processes, programs)
        try:
            for index in order:
                world.step(index)
        except AssertionError as exc:
            raise AssertionError(f"{exc}, in order {order} of {programs}") from exc
    return schedules


@pytest.mark.parametrize("programs", SCENARIOS, ids="-".join)
def test_no_order_breaks_the_promise(redis_url, programs):
    """After each step the key has what was confirmed last, or nothing older."""
    assert explore(redis_url, programs) >= 4


MUTANTS = {
    "a late delete deletes all": (
        (write_log, "DELETE_OLDER", "and written_at < failed_at", ""),
        ("FP", "WW"),
    ),
    "a write leaves no trace": (
        (scripts, "STORE", "local frame, size = ARGV[2], 0", "do return end"),
        ("FP", "WW"),
    ),
    "an add leaves no trace": (
        (scripts, "ADD", "local frame, size = ARGV[2], 0", "do return 1 end"),
        ("DP", "XA"),
    ),
    "its own late write voids a delete": (
        (write_log, "DELETE_OLDER", "~= ARGV[3]", "~= ''"),
        ("FGP", "W"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(redis_url, monkeypatch, name):
    """Without the rule some order goes wrong."""
    (module, script, old, new), programs = MUTANTS[name]
    changed = rewritten(getattr(module, script), old, new)
    monkeypatch.setattr(module, script, changed)
    with pytest.raises(AssertionError, match="I28"):
        explore(redis_url, programs)


def test_a_mutant_with_older_failures(redis_url, monkeypatch):
    """When the change failed is told to the server: earlier writes void nothing."""
    monkeypatch.setattr(write_log, "instants", lambda ages_s: [b"1"] * len(ages_s()))
    with pytest.raises(AssertionError, match="I28"):
        explore(redis_url, ("FP", "WW"))


def test_a_mutant_that_pays_after_its_own_write(redis_url, monkeypatch):
    """A process carries its delete out before it writes the key, not afterwards."""
    seen, before = set(), Replay.before

    async def one_call_later(self, keys):
        debts = tuple(self._engine.outage.pending_deletes._keys.items())
        if debts in seen:
            return await before(self, keys)
        seen.add(debts)
        return None

    monkeypatch.setattr(Replay, "before", one_call_later)
    with pytest.raises(AssertionError, match="I28"):
        explore(redis_url, ("FWP", "W"))
