"""Each rule about own writes and their echoes, alone."""

from __future__ import annotations

import gc
import weakref

import pytest

from cachebridge.core.direct import Direct
from cachebridge.core.fill import Fill
from cachebridge.core.write import QueuedWrite, Write
from cachebridge.errors import L2Error
from tests.rig import STRANGER, FakeClock, entry_of, make_rules

K = ("k",)


def store_and_raise(write, error):
    write.stage("k", entry_of("new"))
    raise error


def write_and_keep(rules, payload):
    with Write(rules, K) as write:
        write.stage("k", entry_of(payload, write_id=write.id))
    return write


def test_write_through(rules, store):
    """I7: no entry while the write is running, the written one afterwards."""
    store.put("k", entry_of("old"))
    with Write(rules, K) as write:
        assert store.look("k") is None
        write.stage("k", entry_of("new", write_id=write.id))
        assert store.look("k") is None
    assert store.look("k") == entry_of("new", write_id=write.id)
    assert rules.is_idle()


def test_nothing_refers_to_itself(rules):
    """A write that is over goes at once, without the garbage collector."""

    class Seen(Write):
        __slots__ = ("__weakref__",)

    with (write := Seen(rules, ("a", "b"))), write:
        write.stage("a", entry_of("new", write_id=write.id))
    seen = weakref.ref(write)
    gc.disable()
    try:
        del write
        assert seen() is None
    finally:
        gc.enable()


def test_keys_of_one_call_are_apart(rules, store):
    """What joins one of them has no part in the others."""
    with Write(rules, ("a", "b")) as one:
        one.stage("b", entry_of("one", write_id=one.id))
        with Fill(rules, ("a",)), Write(rules, ("a",)):
            pass
    assert rules.is_idle()
    assert store.look("b") == entry_of("one", write_id=one.id)


def test_without_a_known_value(rules, store):
    """A write whose result is unknown leaves no entry."""
    store.put("k", entry_of("old"))
    with Write(rules, K):
        pass
    assert store.look("k") is None


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, GeneratorExit])
def test_error_leaves_nothing(rules, store, error):
    """A write that failed may still be carried out: L1 keeps neither value."""
    store.put("k", entry_of("old"))
    write = Write(rules, ("k", "l"))
    with pytest.raises(error), write:
        store_and_raise(write, error)
    assert len(store) == 0
    assert rules.is_idle()


@pytest.mark.parametrize("first_ends_first", [True, False])
def test_overlapping_writes(rules, store, first_ends_first):
    """V3: the order of two overlapping writes is unknown."""
    one, two = Write(rules, K), Write(rules, K)
    one.__enter__()
    two.__enter__()
    assert one.id != two.id
    for write in (one, two):
        write.stage("k", entry_of("x", write_id=write.id))
    for write in (one, two) if first_ends_first else (two, one):
        write.__exit__(None, None, None)
        assert store.look("k") is None
    assert rules.is_idle()


@pytest.mark.parametrize(
    "disturb",
    [
        lambda rules, clock: rules.on_keys(STRANGER, 1, K),
        lambda rules, clock: rules.on_keys(rules.origin, 999, K),
        lambda rules, clock: rules.on_prefix("k"),
        lambda rules, clock: rules.flush("test"),
        lambda rules, clock: rules.end_trust(),
        lambda rules, clock: rules.on_break(),
        lambda rules, clock: (
            rules.on_break(),
            rules.on_subscribed(),
            rules.extend_trust(clock() + 1),
        ),
        lambda rules, clock: rules.switch(on=False),
        lambda rules, clock: clock.advance(100),
    ],
    ids=[
        "foreign message",
        "own message of another write",
        "prefix",
        "flush",
        "trust ended",
        "break",
        "break and recovery",
        "switched off",
        "trust ran out",
    ],
)
def test_not_kept_if_disturbed(rules, store, clock, disturb):
    """A write-through stores only if nothing happened since the write began."""
    with Write(rules, K) as write:
        disturb(rules, clock)
        write.stage("k", entry_of("new", write_id=write.id))
    assert store.look("k") is None


def test_echo_during_the_write(rules, store):
    """The echo of the only running write is no reason to drop its entry."""
    with Write(rules, K) as write:
        rules.on_keys(rules.origin, write.id, K)
        write.stage("k", entry_of("new", write_id=write.id))
    assert store.look("k") is not None


def test_echo_after_the_write(rules, store):
    """The echo of the write that L1 reflects is ignored."""
    write = write_and_keep(rules, "new")
    rules.on_keys(rules.origin, write.id, K)
    assert store.look("k") is not None


@pytest.mark.parametrize("own", [True, False])
def test_echo_by_write_id_never_by_origin_alone(rules, store, own):
    """I8: an own write that timed out and is carried out late drops the entry."""
    late = Write(rules, K)
    late.__enter__()
    late.__exit__(TimeoutError, None, None)
    write = write_and_keep(rules, "new")
    if own:
        rules.on_keys(rules.origin, late.id, K)
    else:
        rules.on_keys(STRANGER, write.id, K)
    assert store.look("k") is None


def test_echo_of_one_of_two_writes(rules, store):
    """With two running writes an echo closes both: their order is unknown."""
    one, two = Write(rules, K), Write(rules, K)
    one.__enter__()
    two.__enter__()
    rules.on_keys(rules.origin, one.id, K)
    one.__exit__(None, None, None)
    two.stage("k", entry_of("two", write_id=two.id))
    two.__exit__(None, None, None)
    assert store.look("k") is None


def test_echo_drops_what_a_fill_stored(rules, store):
    """An entry that a fill stored reflects no write id: every echo drops it."""
    write = write_and_keep(rules, "new")
    store.pop("k")
    with Fill(rules, K) as fill:
        fill.store("k", entry_of("new"))
    rules.on_keys(rules.origin, write.id, K)
    assert store.look("k") is None


def test_batch_decides_per_key(rules, store):
    """A message about one key of a batch spares the others."""
    with Write(rules, ("a", "b", "c")) as write:
        rules.on_keys(STRANGER, 1, ["b"])
        for key in "abc":
            write.stage(key, entry_of(key, write_id=write.id))
    assert sorted(store.all_keys()) == ["a", "c"]


def test_ids_and_origin(rules):
    """Every write has an id of its own; the origin is the engine's."""
    writes = [write_and_keep(rules, "x") for _ in range(3)]
    assert len({write.id for write in writes}) == 3
    assert {write.origin for write in writes} == {rules.origin}
    other = make_rules(FakeClock())[0]
    assert other.origin != rules.origin
    assert len(rules.origin) == 8


def test_direct_touches_nothing(rules, store):
    """Keys that never enter L1 take the same steps without any effect."""
    with Direct(rules, iter(["k"])) as direct:
        direct.store("k", entry_of("x"))
        direct.refuse("k")
        assert rules.is_idle()
    assert direct.keys == ["k"]
    assert len(store) == 0


def queued(rules, *payloads):
    """Return a write of the key that has been given these values, one by one."""
    write = QueuedWrite(rules, serves_outage=False).begin()
    for payload in payloads:
        write.join("k", payload.encode(), None, entry_of(payload))
    return write


def send(write):
    write.seal()
    with write, write:
        return write.items(0.0)


def test_a_queued_value_is_served_until_and_after_it_is_sent(rules, store):
    """L1 has the last value from its joining on, as an entry of this write."""
    store.put("k", entry_of("old"))
    write = queued(rules, "first", "last")
    assert store.look("k") == entry_of("last", write_id=write.id)
    assert send(write) == ([("k", b"last")], None)
    assert store.look("k") == entry_of("last", write_id=write.id)
    assert rules.is_idle()


@pytest.mark.parametrize("is_open", [False, True])
def test_no_fill_stores_while_a_value_is_queued(rules, store, is_open):
    """Neither one that was open before nor one that begins meanwhile."""
    fill = Fill(rules, K)
    if is_open:
        with fill, fill:
            write = queued(rules, "new")
            rules.drop("k")
            fill.store("k", entry_of("old"))
    else:
        write = queued(rules, "new")
        rules.drop("k")
        with fill, fill:
            fill.store("k", entry_of("old"))
    assert store.look("k") is None
    send(write)
    assert store.look("k") is None
    assert rules.is_idle()


@pytest.mark.parametrize(
    "disturb",
    [
        lambda rules: rules.on_keys(STRANGER, 1, K),
        lambda rules: rules.flush("clear"),
        lambda rules: rules.on_subscribed(),
        lambda rules: rules.on_prefix("k"),
    ],
)
def test_what_drops_an_entry_drops_a_queued_one(rules, store, disturb):
    """The value is still sent, and L1 does without it; a later one is served again."""
    write = queued(rules, "new")
    disturb(rules)
    assert store.look("k") is None
    assert send(write)[0] == [("k", b"new")]
    assert store.look("k") is None
    rules.extend_trust(float("inf"))
    send(queued(rules, "later"))
    assert store.look("k") is not None


def test_own_echo_of_a_queued_value(rules, store):
    """The message of its sending drops nothing, that of an earlier write does."""
    write = queued(rules, "new")
    rules.on_keys(rules.origin, write.id, K)
    assert store.look("k") is not None
    rules.on_keys(rules.origin, write.id - 1, K)
    assert store.look("k") is None
    send(write)


def test_a_later_value_while_the_first_is_sent(rules, store):
    """The two do not know which of them L2 has: L1 has neither, until one is sent."""
    first = queued(rules, "first")
    first.seal()
    with first, first:
        second = queued(rules, "second")
        assert store.look("k") is None
    assert store.look("k") is None
    second.join("k", b"third", None, entry_of("third"))
    assert store.look("k") == entry_of("third", write_id=second.id)
    send(second)
    assert rules.is_idle()


def test_a_value_that_cannot_be_sent(rules, store):
    """It leaves L1, as what any failed write has offered."""
    write = queued(rules, "new")
    write.seal()
    with pytest.raises(L2Error), write, write:
        raise L2Error("away")
    assert store.look("k") is None
    assert rules.is_idle()


def test_ttls_of_queued_values(rules):
    """What is left at the sending; a TTL that is over by then is none to be sent."""
    write = QueuedWrite(rules, serves_outage=False).begin()
    for key, ends in {"a": 10.0, "b": 5.0, "c": 20.0}.items():
        write.join(key, b"", ends, None)
    assert write.over(5.0) == ["b"]
    assert write.items(5.0) == ([("a", b""), ("c", b"")], [5000, 15000])
    assert write.items(10.0) == ([("c", b"")], 10000)
    assert write.items(20.0) == ([], None)
    send(write)
