"""Some hundred schedules by seed: nothing wrong at rest, nor after recovery."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from cachebridge.core.coherence import NEVER, Coherence
from cachebridge.core.outage import OutageEntries
from cachebridge.engine.loading.load import Load
from cachebridge.engine.outage.fallbacks import Fallbacks
from cachebridge.engine.outage.replay import Replay
from cachebridge.errors import L2UnavailableError
from cachebridge.l2.memory.load_records import LoadRecords
from cachebridge.l2.memory.server import MemoryServer
from cachebridge.l2.memory.store import MemoryStore
from cachebridge.testing import ChaosBus, ChaosL2, FakeClock
from cachebridge.testing.contracts.message_contract import StoreFace
from tests.proofs.chaos.world import World, wait

SEEDS = 200
STEPS = 250


@pytest.fixture(autouse=True)
def quiet(untraced, monkeypatch):
    """Say nothing of each fault, wait for nothing, and let coverage rest."""
    monkeypatch.setattr(Load, "wait", wait)
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def played(seed):
    world = World(seed)
    world.run(STEPS)
    return world


def first_wrong(seeds=SEEDS):
    """Return the first seed that shows something wrong, and what."""
    for seed in range(seeds):
        if wrong := played(seed).wrong:
            return seed, wrong
    return None


def test_no_schedule_is_wrong():
    """All schedules keep the invariants, and each kind of fault has struck."""
    fired, done = Counter(), Counter()
    for seed in range(SEEDS):
        world = played(seed)
        assert not world.wrong, f"seed {seed}: {world.wrong[:3]}"
        fired += world.fired()
        done += world.done
        done["hits"] += sum(p.engine.counters.l1_hits for p in world.processes)
        done["outages"] += sum(p.engine.counters.outages for p in world.processes)
    print(fired, done)
    for fault in ("fail_before", "fail_after", "fail_late", "stall"):
        assert fired[fault] > SEEDS
    for fault in ("drop", "duplicate", "reorder"):
        assert fired[fault] > SEEDS / 2
    assert done["hits"] > 10 * SEEDS
    assert done["outages"] > SEEDS


def test_schedules_are_repeated_by_their_seed():
    """The same seed leads to the same answers at the same times."""
    for seed in range(5):
        assert played(seed).trace == played(seed).trace
    assert played(1).trace != played(2).trace


def _end_without_flush(self):
    with self._rules.lock:
        self.is_active = False
        self.until = NEVER
        self._rules.update_gate()


def _load_into_a_trusted_l1(self, key, entry, *same):
    self.store(key, entry, *same)


def _subscribe_without_flush(self):
    with self.lock:
        self.epoch += 1
        self.connected = True
        self.update_gate()


async def _replay_nothing(*_args):
    return None


MUTANTS = {
    "outage entries stay": (OutageEntries, "end", _end_without_flush),
    "pending deletes are not replayed first": (Replay, "before", _replay_nothing),
    "pending deletes are forgotten": (
        Fallbacks,
        "_delete_later",
        lambda *_args: None,
    ),
    "generations are not checked": (LoadRecords, "holds", lambda *_args: True),
    "no flush on the acknowledgement": (
        Coherence,
        "on_subscribed",
        _subscribe_without_flush,
    ),
    "own echo by origin": (Coherence, "_not_of_own", lambda *_args: []),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_planted_bug_is_caught(name, monkeypatch):
    """With one rule switched off some seed shows it."""
    owner, attribute, change = MUTANTS[name]
    monkeypatch.setattr(owner, attribute, change)
    found = first_wrong()
    assert found is not None
    print(name, found[0], found[1][0])


def test_loaded_value_in_a_trusted_l1_is_caught(monkeypatch):
    """What was loaded without the server may not enter an L1 that is trusted."""

    async def load_without_l2(self):
        key = self.key
        with self._operations.open_fill((key,)) as fill:
            await self.begin_tags(None)
            result = await self.load()
            if result.raw is not None:
                self._operations.values.take_read(
                    fill, key, result.value, result.raw, -1
                )
        return result

    monkeypatch.setattr(Load, "load_without_l2", load_without_l2)
    assert first_wrong() is not None


# -- the doubles themselves ---------------------------------------------------------


def make_l2(**shares):
    clock = FakeClock()
    store = MemoryStore(MemoryServer(clock))
    chaos = ChaosL2(store, seed=1, clock=clock, **shares)
    return StoreFace(chaos), StoreFace(store), clock


def test_fail_before_changes_nothing():
    """The call raises after its timeout, and was not carried out."""
    chaos, store, clock = make_l2(fail_before=1.0, timeout_s=0.5)
    began = clock()
    with pytest.raises(L2UnavailableError):
        chaos.store([("k", b"v")], None, None)
    assert store.get("k") == (None, -2)
    assert clock() - began == 0.5
    assert chaos.fired == {"fail_before": 1}


def test_fail_after_is_a_ghost():
    """The call raises although it was carried out."""
    chaos, store, _ = make_l2(fail_after=1.0)
    with pytest.raises(L2UnavailableError):
        chaos.store([("k", b"v")], None, None)
    assert store.get("k") == (b"v", -1)


def test_fail_late_is_carried_out_when_told():
    """The call raises, and takes effect long afterwards, once."""
    chaos, store, _ = make_l2(fail_late=1.0)
    with pytest.raises(L2UnavailableError):
        chaos.store([("k", b"v")], None, None)
    assert store.get("k") == (None, -2)
    assert chaos.carry_out_late() == 1
    assert store.get("k") == (b"v", -1)
    assert chaos.carry_out_late() == 0


def test_stall_fails_until_recovered():
    """Nothing gets through meanwhile."""
    chaos, store, _ = make_l2()
    store.store([("k", b"v")], None, None)
    chaos.stall()
    with pytest.raises(L2UnavailableError):
        chaos.get("k")
    chaos.recover()
    assert chaos.get("k") == (b"v", -1)


def test_delay_passes_on_the_clock():
    """A slow answer costs no real time."""
    chaos, _, clock = make_l2(delay_s=100.0)
    began = clock()
    chaos.get("k")
    assert began < clock() < began + 100.0


class Recorder:
    """Keeps what a bus reports."""

    def __init__(self):
        self.seen = []

    def on_subscribed(self):
        self.seen.append("subscribed")

    def on_break(self, _reason):
        self.seen.append("break")

    def on_frame(self, frame):
        self.seen.append(frame)
        return False

    def on_server_changed(self):
        self.seen.append("changed")

    def l1_is_on(self):
        return True

    def on_heartbeat(self, sent_at, *, l1_on):
        self.seen.append(sent_at)


def make_bus(**shares):
    bus = ChaosBus(seed=1, clock=FakeClock(7.0), **shares)
    recorder = Recorder()
    bus.link(recorder).start()
    recorder.seen.clear()
    return bus, recorder


def test_bus_keeps_messages_until_they_are_delivered():
    """In order, if nothing else was asked for; the heartbeat last."""
    bus, recorder = make_bus()
    for number in range(3):
        bus.publish(b"%d" % number)
    bus.beat()
    assert recorder.seen == []
    assert bus.deliver(10) == 4
    assert recorder.seen == [b"0", b"1", b"2", 7.0]


def test_dropped_message_breaks_the_link():
    """Nothing comes after it, until the break is told and subscribed anew."""
    bus, recorder = make_bus(drop=1.0)
    bus.publish(b"lost")
    bus.beat()
    assert bus.deliver(10) == 0
    assert bus.repair() == 1
    bus.beat()
    bus.deliver(10)
    assert recorder.seen == ["break", "subscribed", 7.0]


def test_duplicates_and_another_order():
    """Every message comes, some twice, but none after a later heartbeat."""
    bus, recorder = make_bus(duplicate=0.5, reorder=0.5)
    for number in range(20):
        bus.publish(b"%d" % number)
    bus.beat()
    bus.publish(b"later")
    while bus.deliver():
        pass
    at = recorder.seen.index(7.0)
    before = recorder.seen[:at]
    assert set(before) == {b"%d" % number for number in range(20)}
    assert len(before) > 20
    assert before != sorted(before, key=int)
    assert set(recorder.seen[at + 1 :]) == {b"later"}
