"""Sessions at all masters: trust is the earliest of them, and every doubt ends it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from cachebridge.bus import masters
from cachebridge.bus.masters import MasterReceiver, MastersBus, Sessions
from tests.rig import PATIENCE_S, FakeClock, eventually, make_rules

HOME = b"home"


class Told:
    """A receiver that keeps what it is told."""

    def __init__(self):
        self.events = []
        self.l1_on = True

    def on_subscribed(self):
        self.events.append("subscribed")

    def on_break(self, reason):
        self.events.append(reason)

    def on_heartbeat(self, sent_at, *, l1_on):
        self.events.append((sent_at, l1_on))

    def on_server_known(self, server_id):
        self.events.append(server_id)

    def on_server_changed(self):
        self.events.append("changed")

    def on_frame(self, frame):
        self.events.append(frame)
        return frame == b"own"

    def l1_is_on(self):
        return self.l1_on

    def since(self):
        taken = self.events.copy()
        self.events.clear()
        return taken


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def sessions(told):
    return Sessions(told)


def trusted(sessions, told, count=3):
    """Return so many sessions that all are there and proven."""
    made = [MasterReceiver(sessions, is_home=not number) for number in range(count)]
    sessions.want(frozenset(made), is_whole=True)
    for at, each in enumerate(made):
        each.on_subscribed()
        each.on_heartbeat(float(at), l1_on=True)
    told.since()
    return made


def test_trust_begins_when_all_are_proven(sessions, told):
    """L1 begins anew when all subscribe, and is trusted as the earliest proves."""
    one, other = (MasterReceiver(sessions, is_home=home) for home in (True, False))
    sessions.want(frozenset([one, other]), is_whole=True)
    assert len(told.since()) == 1
    one.on_subscribed()
    one.on_heartbeat(5.0, l1_on=True)
    assert told.since() == []
    other.on_subscribed()
    assert told.since() == ["subscribed"]
    one.on_heartbeat(6.0, l1_on=True)
    assert told.since() == []
    other.on_heartbeat(4.0, l1_on=True)
    one.on_heartbeat(7.0, l1_on=False)
    other.on_heartbeat(8.0, l1_on=False)
    assert told.since() == [(4.0, None), (4.0, False), (7.0, None)]


def test_one_session_breaks(sessions, told):
    """Trust ends at once; it returns when that one is subscribed and proven anew."""
    one, two, three = trusted(sessions, told)
    two.on_break("cut")
    assert told.since() == ["cut"]
    one.on_heartbeat(10.0, l1_on=True)
    three.on_heartbeat(11.0, l1_on=True)
    assert told.since() == []
    two.on_subscribed()
    assert told.since() == ["subscribed"]
    one.on_heartbeat(12.0, l1_on=True)
    assert told.since() == []  # what the second has proven before is void
    two.on_heartbeat(13.0, l1_on=True)
    assert told.since() == [(11.0, None)]


def test_an_old_session_says_nothing(sessions, told):
    """Neither what it hears nor how it ends is about the masters of now."""
    one, two, old = trusted(sessions, told)
    new = MasterReceiver(sessions, is_home=False)
    sessions.want(frozenset([one, two, new]), is_whole=True)
    assert len(told.since()) == 1
    old.on_subscribed()
    old.on_heartbeat(10.0, l1_on=True)
    one.on_heartbeat(11.0, l1_on=True)
    two.on_heartbeat(12.0, l1_on=True)
    assert told.since() == []
    new.on_subscribed()
    old.on_heartbeat(13.0, l1_on=True)
    old.on_break("gone")
    assert told.since() == ["subscribed"]
    one.on_heartbeat(14.0, l1_on=True)
    assert told.since() == []
    new.on_heartbeat(15.0, l1_on=True)
    assert told.since() == [(12.0, None)]


def test_guests(sessions, told):
    """While a node is in use that has no session, nothing is trusted."""
    every = trusted(sessions, told)
    sessions.close("a guest")
    sessions.want(frozenset(every), is_whole=False)
    for each in every:
        each.on_heartbeat(10.0, l1_on=True)
        each.on_subscribed()
    assert set(told.since()) == {"a guest", "the masters of the cluster are others now"}
    sessions.want(frozenset(every), is_whole=True)
    every[0].on_heartbeat(11.0, l1_on=True)
    assert told.since() == ["subscribed", (10.0, True)]
    sessions.want(frozenset(every), is_whole=True)
    assert told.since() == []


def test_no_master(sessions, told):
    """Without any there is no trust."""
    sessions.want(frozenset(), is_whole=True)
    assert "subscribed" not in told.since()


def test_home_alone_speaks_for_the_cluster(sessions, told):
    """It has the switch and the name; a loss of data concerns every master."""
    home, other = trusted(sessions, told, 2)
    told.l1_on = False
    assert not home.l1_is_on()
    assert other.l1_is_on()
    home.on_server_known(b"cluster")
    other.on_server_known(b"another")
    other.on_server_changed()
    assert home.on_frame(b"own")
    assert not other.on_frame(b"a peer's")
    assert told.since() == [b"cluster", "changed", b"own", b"a peer's"]


def test_heartbeats_and_messages_come_one_at_a_time(sessions, told):
    """As from one server: a heartbeat must not undo what a message has just done."""
    one, other = trusted(sessions, told, 2)
    inside, go_on = threading.Event(), threading.Event()

    def hold(frame):
        inside.set()
        assert go_on.wait(PATIENCE_S)
        told.events.append(frame)
        return False

    told.on_frame = hold
    hearing = threading.Thread(target=one.on_frame, args=(b"newer",))
    beating = threading.Thread(target=lambda: other.on_heartbeat(9.0, l1_on=True))
    hearing.start()
    assert inside.wait(PATIENCE_S)
    beating.start()
    beating.join(0.05)  # longer is as good: it must wait
    assert told.events == []
    go_on.set()
    beating.join(PATIENCE_S)
    hearing.join(PATIENCE_S)
    assert told.since() == [b"newer", (0.0, None)]


def test_a_fence_waits_for_no_heartbeat_without_trust():
    """While a master is away the others must not send one after the other."""
    from cachebridge.engine.messages.incoming import Receiver

    rules, _, counters = make_rules(lambda: 1000.0)
    rules.echo_proves_all = False
    quiet = lambda *_: None  # noqa: E731 four of the same
    receiver = Receiver(
        rules,
        counters,
        trust_s=1.0,
        on_alive=quiet,
        on_proof=quiet,
        on_keys_changed=quiet,
        on_server_known=quiet,
    )
    rules.fences.awaited.add(1)
    rules.raise_fence(1, is_announced=True)
    assert receiver.waits_for_beat()
    receiver.on_break("a master is away")
    assert not receiver.waits_for_beat()
    receiver.on_subscribed()
    assert not receiver.waits_for_beat()


# -- the bus ---------------------------------------------------------------------------


class FakeListener:
    """Does what a listener does at its start, and keeps what it is told."""

    refuses = False

    def __init__(self, master, tag, receiver):
        self.master, self.tag, self.receiver = master, tag, receiver
        self.calls = []

    def start(self):
        if self.refuses:
            raise RuntimeError("can't start new thread")
        self.calls.append("start")
        self.receiver.on_subscribed()  # its thread may be that quick
        self.receiver.on_heartbeat(1.0, l1_on=True)

    def is_alive(self):
        return self.calls[:1] == ["start"] and "stop" not in self.calls

    def __getattr__(self, name):
        return lambda *args: self.calls.append((name, *args) if args else name)


class World:
    """Masters, and the listeners that were made for them."""

    def __init__(self, told):
        self.masters = {}
        self.is_whole = True
        self.made = []
        self.watched = 0
        self.refuses_after = 99
        self.bus = MastersBus(
            told,
            watch=self.watch,
            masters=lambda: self.masters,
            is_whole=lambda: self.is_whole,
            make_listener=self.make,
            home=HOME,
        )

    def watch(self):
        self.watched += 1

    def make(self, *args):
        listener = FakeListener(*args)
        listener.refuses = len(self.made) >= self.refuses_after
        self.made.append(listener)
        return listener

    def alive(self):
        return {each.master for each in self.made if each.is_alive()}


@pytest.fixture
def world(told):
    return World(told)


def test_listeners_follow_the_masters(world, told):
    """One each; trust ends with every change, and comes with the last to subscribe."""
    world.bus.start()
    assert world.watched == 1  # no caller need have asked for anything
    assert world.bus.is_alive()
    assert world.alive() == set()
    world.masters = {"a": HOME, "b": b"1"}
    world.bus.follow()
    assert world.alive() == {"a", "b"}
    assert told.since().count("subscribed") == 1
    world.bus.follow()
    assert told.since() == []
    world.masters = {"a": HOME, "c": b"2"}
    world.bus.follow()
    assert world.alive() == {"a", "c"}
    assert told.since()[0] == "the masters of the cluster are others now"
    assert len(world.made) == 3


def test_a_listener_is_replaced(world):
    """If the home has moved, or the slot of a tag: the names of its keys are others."""
    world.masters = {"a": HOME, "b": b"1"}
    world.bus.start()
    first = list(world.made)
    world.masters = {"a": b"3", "b": HOME}
    world.bus.follow()
    assert world.alive() == {"a", "b"}
    assert all(each.calls[-1] == "stop" for each in first)
    assert [each.receiver.l1_is_on() for each in world.made[2:]] == [True, True]


def test_no_thread_for_one_of_them(world, told):
    """The start fails, and leaves no listener that no caller knows."""
    world.masters = {"a": HOME, "b": b"1", "c": b"2"}
    world.refuses_after = 2
    with pytest.raises(RuntimeError):
        world.bus.start()
    assert world.alive() == set()
    assert not world.bus.is_alive()
    assert "subscribed" not in told.events


def test_no_thread_for_a_master_that_came_later(world, told):
    """It is tried again at the next look at the map; until then there is no trust."""
    world.masters = {"a": HOME}
    world.bus.start()
    told.since()
    world.refuses_after = 1
    world.masters = {"a": HOME, "b": b"1"}
    with pytest.raises(RuntimeError):
        world.bus.follow()
    world.made[0].receiver.on_heartbeat(2.0, l1_on=True)
    assert told.since() == ["the masters of the cluster are others now"]
    world.refuses_after = 99
    world.bus.follow()
    assert world.alive() == {"a", "b"}
    assert "subscribed" in told.events


def test_calls_reach_all(world):
    """What concerns one master is told to its listener alone."""
    world.masters = {"a": HOME, "b": b"1"}
    world.bus.start()
    world.bus.renew()
    world.bus.break_off("why")
    world.bus.on_leave("b", "demoted")
    world.bus.on_leave("stranger", "demoted")
    calls = {each.master: each.calls for each in world.made}
    common = ["start", "renew", ("break_off", "why")]
    assert calls["a"] == common
    assert calls["b"] == [*common, ("break_off", "demoted")]


def test_all_are_waited_for_together(world, monkeypatch):
    """No longer than for one."""
    clock = FakeClock(10.0)
    monkeypatch.setattr(masters, "time", SimpleNamespace(monotonic=clock))
    world.masters = {"a": HOME, "b": b"1", "c": b"2"}
    world.bus.start()
    waited = []
    for listener in world.made:
        listener.join = lambda most: (waited.append(most), clock.advance(0.6))
    world.bus.join(1.0)
    assert waited == [1.0, pytest.approx(0.4), 0.0]


def test_after_its_stop_it_follows_nothing(world, told):
    """A map that becomes known later starts no thread."""
    world.masters = {"a": HOME}
    world.bus.start()
    world.bus.stop()
    world.masters = {"a": HOME, "b": b"1"}
    world.bus.follow()
    assert world.alive() == set()
    assert not world.bus.is_alive()


def test_a_stop_during_a_change(world):
    """Whichever comes first, no listener is left."""
    world.bus.start()
    world.masters = {str(each): b"1" for each in range(50)}
    changing = threading.Thread(target=world.bus.follow)
    changing.start()
    world.bus.stop()
    changing.join(PATIENCE_S)
    eventually(lambda: not world.alive())
