"""What L1 may serve, take and keep while L2 is away."""

from __future__ import annotations

from contextlib import suppress

import pytest

from cachebridge.core import outage
from cachebridge.core.coherence import Coherence
from cachebridge.core.direct import Direct, DirectWrite
from cachebridge.core.entry import EXPIRES
from cachebridge.core.fill import Fill
from cachebridge.core.watch import Watch
from cachebridge.core.write import Write
from cachebridge.errors import L2Error
from cachebridge.l1.eviction import S3Fifo
from cachebridge.stats import Counters
from tests.rig import FakeClock, entry_of

TRUST_S, OUTAGE_S = 2.0, 30.0


class Bench:
    """Rules over a real store that holds one entry, trusted for two seconds."""

    def __init__(self, outage_ttl_s=OUTAGE_S):
        self.clock = FakeClock()
        self.counters = Counters()
        self.store = S3Fifo(max_entries=100, max_bytes=1 << 20, counters=self.counters)
        self.rules = Coherence(
            self.store,
            clock=self.clock,
            counters=self.counters,
            outage_ttl_s=outage_ttl_s,
        )
        self.rules.on_subscribed()
        self.rules.extend_trust(self.clock() + TRUST_S)
        self.store.put("old", entry_of("old"))

    def serves(self, *, strictly=False):
        gate = self.rules.gate if strictly else self.rules.outage_gate
        return self.clock() < gate.until

    def write(self, key, *, serves_outage=True, error=L2Error, expires=2000.0):
        """Let a write fail after it has offered its entry."""
        with (
            suppress(error),
            Write(self.rules, (key,), serves_outage=serves_outage) as write,
        ):
            write.stage(key, entry_of("new", expires=expires, write_id=write.id))
            raise error

    def fill(self, key):
        """Load without L2, and keep what was loaded."""
        with Fill(self.rules, (key,), serves_outage=True) as fill:
            fill.store(key, entry_of("loaded"))


@pytest.fixture
def bench():
    return Bench()


def test_serves_past_trust_only_in_an_outage(bench):
    """A break of the bus alone sends every read to L2."""
    bench.rules.on_break()
    assert not bench.serves()
    bench.rules.outage.begin()
    assert bench.serves()
    assert not bench.serves(strictly=True)
    bench.rules.outage.end()
    assert not bench.serves()


@pytest.mark.parametrize("end", ["break", "lapse"])
def test_for_as_long_as_allowed(bench, end):
    """OUTAGE_TTL counts from the end of trust, not from the outage's beginning."""
    if end == "break":
        bench.rules.on_break()
        last = bench.clock()
    else:
        last = bench.clock() + TRUST_S
    bench.clock.advance(20)
    bench.rules.outage.begin()
    bench.clock.now = last + OUTAGE_S - 0.1
    assert bench.serves()
    bench.clock.advance(0.2)
    assert not bench.serves()


def test_never_trusted_serves_nothing():
    """A process that starts during the outage has only what it loads itself."""
    bench = Bench()
    bench.rules.reset()
    bench.clock.advance(1000)
    bench.rules.outage.begin()
    assert bench.serves()
    bench.fill("k")
    bench.rules.outage.prolong()
    assert bench.store.look("k") is not None


def test_an_outage_long_after_trust_begins_with_nothing(bench):
    """What L1 was vouched for too long ago goes when the breaker opens."""
    bench.rules.on_break()
    bench.clock.advance(OUTAGE_S + 1)
    bench.rules.outage.begin()
    assert len(bench.store) == 0
    bench.write("own")
    bench.rules.outage.prolong()
    assert bench.store.look("own") is not None


def test_a_long_outage_goes_on_with_what_was_made_since(bench):
    """Once entries from before the outage are too old they go, and new ones serve."""
    bench.rules.on_break()
    bench.rules.outage.begin()
    bench.clock.advance(OUTAGE_S + 1)
    assert not bench.serves()
    bench.rules.outage.prolong()
    assert len(bench.store) == 0
    assert bench.serves()
    bench.fill("k")
    bench.rules.outage.prolong()
    assert bench.store.look("k") is not None


def test_prolonging_before_its_time_changes_nothing(bench):
    """Entries from before the outage stay while they may serve."""
    bench.rules.outage.prolong()
    bench.rules.on_break()
    bench.rules.outage.begin()
    bench.rules.outage.prolong()
    assert bench.store.look("old") is not None


def test_a_failed_write_serves_its_process(bench):
    """What was offered is kept, for OUTAGE_TTL at most, until L2 is back."""
    bench.rules.outage.begin()
    bench.write("old")
    entry = bench.store.look("old")
    assert entry[EXPIRES] == bench.clock() + OUTAGE_S
    bench.write("soon", expires=bench.clock() + 1)
    assert bench.store.look("soon")[EXPIRES] == bench.clock() + 1
    bench.rules.outage.end()
    assert len(bench.store) == 0


def test_the_end_takes_what_came_during_the_outage(bench):
    """What the bus vouches for stays; caches that raise see nothing meanwhile."""
    bench.rules.outage.begin()
    bench.fill("k")
    assert bench.serves()
    assert not bench.serves(strictly=True)  # although the bus is trusted
    bench.rules.outage.end()
    assert bench.serves(strictly=True)
    assert bench.store.look("k") is None
    assert bench.store.look("old") is not None


class Pending:
    """Keys of which L2 has an old value."""

    def __init__(self, *keys):
        self._keys = set(keys)

    may_be = True

    def concern(self, keys):
        return not self._keys.isdisjoint(keys)


def load(rules, key, meanwhile=lambda: None, *, keeps=True):
    """Load without L2; ``keeps`` says that the value is the loader's, not L2's."""
    with Fill(rules, (key,), serves_outage=True) as fill:
        meanwhile()
        keep = fill.keep_for_outage if keeps else fill.store
        keep(key, entry_of("loaded"))


def test_what_is_loaded_after_a_delete_is_kept_for_the_outage(bench):
    """It is newer than what L2 still has; the outage's end takes it away."""
    rules = bench.rules
    rules.outage.begin()
    rules.outage.pending_deletes = Pending("old")
    rules.outage.distrust(["old"])
    load(rules, "old", keeps=False)
    assert bench.store.look("old") is None, "L2's answer"
    load(rules, "old")
    assert bench.store.look("old") is not None
    rules.outage.distrust(["old"])
    assert bench.store.look("old") is None, "a later delete"
    load(rules, "old")
    rules.outage.end()
    assert bench.store.look("old") is None
    load(rules, "old")
    assert bench.store.look("old") is None, "after the outage"


@pytest.mark.parametrize("change", ["delete", "end", "end and begin", "clear"])
def test_what_was_loaded_before_a_change_is_not_kept(bench, change):
    """A delete, a clear or the outage's end while the loader runs voids its value."""
    rules = bench.rules
    rules.outage.begin()
    rules.outage.pending_deletes = Pending("k")

    def meanwhile():
        if change == "delete":
            rules.outage.distrust(["k"])
        elif change == "clear":
            rules.on_prefix("")
        else:
            rules.outage.end()
            if change == "end and begin":
                rules.outage.begin()

    load(rules, "k", meanwhile)
    assert bench.store.look("k") is None


def test_an_outage_of_very_many_keys_ends_with_a_flush(bench, monkeypatch):
    """More keys than are remembered: everything goes."""
    monkeypatch.setattr(outage, "MAX_OUTAGE_KEYS", 3)
    bench.rules.outage.begin()
    for key in "abcd":
        bench.fill(key)
    bench.rules.outage.end()
    assert len(bench.store) == 0


def test_distrusted_keys(bench):
    """What was read goes, and is not read again; what was written here stays."""
    bench.rules.outage.begin()
    bench.write("written")
    with Fill(bench.rules, ("loading",), serves_outage=True) as fill:
        bench.rules.outage.distrust(["old", "written", "loading"])
        fill.store("loading", entry_of("loaded"))
    assert bench.store.look("old") is None
    assert bench.store.look("loading") is None
    assert bench.store.look("written") is not None


@pytest.mark.parametrize(
    ("begun", "serves_outage", "error"),
    [(False, True, L2Error), (True, False, L2Error), (True, True, KeyboardInterrupt)],
)
def test_a_failed_write_leaves_nothing_otherwise(bench, begun, serves_outage, error):
    """Not before the breaker is open, not for ON_ERROR="raise", not if interrupted."""
    if begun:
        bench.rules.outage.begin()
    bench.write("old", serves_outage=serves_outage, error=error)
    assert bench.store.look("old") is None


def test_writes_that_overlap_keep_nothing(bench):
    """The order of two overlapping failed writes of a key is unknown."""
    bench.rules.outage.begin()
    with Write(bench.rules, ("old",), serves_outage=True):
        bench.write("old")
    assert bench.store.look("old") is None


def test_a_load_during_a_write_is_not_kept(bench):
    """What was loaded before a delete must not stand for what comes after it."""
    bench.rules.outage.begin()
    with Fill(bench.rules, ("k",), serves_outage=True) as fill:
        bench.write("k", error=ZeroDivisionError)
        fill.store("k", entry_of("loaded"))
    assert bench.store.look("k") is None


def test_a_watch_sees_every_write(bench):
    """Of keys that L1 may hold and of others, at its beginning and at its end."""
    for kind in (Write, DirectWrite):
        with Watch(bench.rules, "k") as watch:
            watch.begin()
            assert watch.is_undisturbed()
            with kind(bench.rules, ("k",)):
                assert watch.is_undisturbed(own_writes=1)
                assert not watch.is_undisturbed()
            assert not watch.is_undisturbed(own_writes=1)
        with kind(bench.rules, ("k",)):
            watch = Watch(bench.rules, "k")
            watch.begin()
        with watch:
            assert not watch.is_undisturbed()
    with Watch(bench.rules, "k") as watch:
        with Direct(bench.rules, ("k",)):
            watch.begin()
        assert watch.is_undisturbed()
    assert bench.rules.is_idle()


def test_without_an_outage_ttl():
    """OUTAGE_TTL=0: L1 neither serves nor takes anything that L2 does not vouch for."""
    bench = Bench(outage_ttl_s=0)
    bench.rules.on_break()
    bench.rules.outage.begin()
    assert not bench.serves()
    assert not bench.rules.outage.may_serve(bench.clock())
    bench.fill("k")
    bench.write("old")
    assert bench.store.look("k") is None
    assert bench.store.look("old") is None


def test_switched_off_or_bypassed(bench):
    """l1_off() and bypass_l1() hold in an outage, too."""
    bench.rules.outage.begin()
    bench.rules.enter_bypass(bench)
    assert not bench.serves()
    bench.rules.leave_bypass(bench)
    assert bench.serves()
    bench.rules.switch(on=False)
    assert not bench.serves()
    assert not bench.rules.outage.may_serve(bench.clock())


def test_one_read_past_trust(bench):
    """Before the breaker opens a single failed read may look at L1, too."""
    assert bench.rules.outage.may_serve(bench.clock())
    bench.rules.on_break()
    bench.clock.advance(OUTAGE_S - 1)
    assert bench.rules.outage.may_serve(bench.clock())
    bench.clock.advance(2)
    assert not bench.rules.outage.may_serve(bench.clock())
