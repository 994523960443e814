"""The rules for one L1 per host, each alone, over a real store and a clock of ours."""

from __future__ import annotations

import threading

import pytest

from cachebridge.core.fill import Fill
from cachebridge.core.host.sharing import Sharing
from cachebridge.core.write import Write
from cachebridge.l1.shared.files import private_store
from cachebridge.l1.shared.layout import LEAST_BYTES
from tests.rig import STRANGER, FakeClock, entry_of, make_rules

PATIENCE_S = 1.0
K = ("k",)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def shared():
    return private_store(LEAST_BYTES)


def process(clock, shared, *, joins=True):
    """Return the rules of one process on the host, subscribed, and a guardian."""
    rules = make_rules(clock)[0]
    rules.sharing = Sharing(rules, patience_s=PATIENCE_S)
    rules.sharing.use(shared)
    rules.sharing.on_subscribed()
    if joins:
        rules.sharing.is_guardian = True
    return rules


@pytest.fixture
def rules(clock, shared):
    return process(clock, shared)


def fill(rules, key="k", raw=b"raw", expires=2000.0):
    with Fill(rules, (key,)) as each:
        each.offer(key, raw)
        each.store(key, entry_of(raw, expires=expires))
    rules.l1.pop(key)


def test_fill_stores_for_all_and_is_found(rules, clock, shared):
    """Another process finds the bytes of L2, and until when they count."""
    fill(rules)
    assert process(clock, shared).sharing.look("k") == (2000.0, b"raw")


def test_write_stores_nothing_and_drops(rules):
    """An own write, also one that fails, leaves nothing behind (rules 1 and 7)."""
    fill(rules)
    with Write(rules, K) as write:
        write.stage("k", entry_of("new"))
        assert rules.sharing.store.look("k")
    assert rules.sharing.store.look("k") is None
    fill(rules)
    with pytest.raises(OSError, match="away"), Write(rules, K):
        raise OSError("away")
    assert rules.sharing.store.look("k") is None


@pytest.mark.parametrize(
    "disturb",
    [
        lambda rules: rules.on_keys(STRANGER, 1, ["k"]),
        lambda rules: rules.on_keys(rules.origin, 1, ["k"]),
        lambda rules: rules.on_prefix("x"),
        lambda rules: rules.flush("clear"),
        lambda rules: rules.flush("server"),
        lambda rules: rules.on_break(),
        lambda rules: rules.end_trust(),
    ],
    ids=["message", "echo", "prefix", "clear", "server", "break", "end of trust"],
)
def test_what_disturbs_a_fill_keeps_it_out(rules, shared, disturb):
    """Nothing is stored that was read before something happened (rule 2)."""
    with Fill(rules, K) as each:
        each.offer("k", b"raw")
        disturb(rules)
        each.store("k", entry_of("raw"))
    assert shared.look("k") is None


def test_two_fills_with_different_values_leave_nothing(rules, clock, shared):
    """They cannot be ordered (rule 3)."""
    other = process(clock, shared)
    with Fill(rules, K) as one, Fill(other, K) as two:
        one.offer("k", b"one")
        one.store("k", entry_of("one"))
        two.offer("k", b"two")
        two.store("k", entry_of("two"))
    assert shared.look("k") is None


def test_late_fill_drops_what_differs(rules, clock, shared):
    """A fill without its token has seen something newer, perhaps (rule 3)."""
    with Fill(rules, K) as late:
        late.offer("k", b"late")
        rules.drop_shared(K)
        fill(process(clock, shared), raw=b"other")
        late.store("k", entry_of("late"))
    assert shared.look("k") is None


def test_absent_key_leaves_nothing(rules, shared):
    """L2 has no such key: what was shared before is gone."""
    fill(rules)
    with Fill(rules, K) as each:
        each.refuse("k")
    assert shared.look("k") is None


def test_expired_value_comes_again(rules, clock, shared):
    """The same bytes are stored anew, with a new end."""
    fill(rules, expires=clock() + 1)
    clock.now += 2
    assert rules.sharing.look("k") is None
    fill(rules, expires=clock() + 1)
    assert shared.look("k") == (clock() + 1, b"raw")


def test_emptying_for_its_own_reasons_leaves_the_others_theirs(rules, shared):
    """A subscription, a stop or the switch concerns one process alone (rule 8)."""
    fill(rules)
    rules.on_break()
    rules.on_subscribed()
    rules.switch(on=False)
    rules.flush("stop")
    assert shared.look("k")


def begin_outage(rules):
    rules.outage.ttl_s = 30.0
    rules.outage.begin()


@pytest.mark.parametrize(
    "close",
    [
        lambda rules: rules.on_break(),
        lambda rules: rules.enter_bypass(rules),
        lambda rules: rules.switch(on=False),
        lambda rules: rules.sharing.on_break(),
        begin_outage,
        lambda rules: Write(rules, K).__enter__(),
        lambda rules: Fill(rules, K).__enter__(),
    ],
    ids=["break", "bypass", "off", "no guardian", "outage", "own write", "own fill"],
)
def test_closed_gate_closes_the_shared_store(rules, close):
    """Each process reads only what its own subscription vouches for (rules 6, 12)."""
    fill(rules)
    assert rules.sharing.look("k")
    close(rules)
    assert rules.sharing.look("k") is None


def test_own_entry_comes_first(rules):
    """What this process has may be newer (rule 6)."""
    fill(rules)
    rules.l1.put("k", entry_of("own"))
    assert rules.sharing.look("k") is None


def test_first_process_begins_alone(clock, shared):
    """No process has proven anything lately: it empties the store and may read (11)."""
    fill(process(clock, shared))
    rules = process(clock, shared, joins=False)
    rules.sharing.on_proof(clock())
    assert rules.sharing.is_trusted
    assert shared.look("k") is None
    assert shared.proven_at == clock()


def test_process_joins_by_the_proof_of_another(rules, clock, shared):
    """What is shared stays; a proof from before the subscription says nothing (9)."""
    fill(rules)
    rules.sharing.on_proof(clock())
    clock.now += 0.1
    newcomer = process(clock, shared, joins=False)
    newcomer.sharing.on_proof(clock())
    assert not newcomer.sharing.is_trusted
    clock.now += 0.1
    rules.sharing.on_proof(clock())
    newcomer.sharing.on_proof(clock())
    assert newcomer.sharing.is_trusted
    assert newcomer.sharing.look("k")


def test_process_that_waits_in_vain_begins_anew(rules, clock, shared):
    """The guardian has died meanwhile (rule 11)."""
    fill(rules)
    rules.sharing.on_proof(clock())
    newcomer = process(clock, shared, joins=False)
    clock.now += PATIENCE_S
    newcomer.sharing.on_proof(clock())
    assert newcomer.sharing.is_trusted
    assert shared.look("k") is None


def test_emptied_store_needs_no_proof(rules, clock, shared):
    """All that is in it came after the own subscription."""
    rules.sharing.on_proof(clock())
    newcomer = process(clock, shared, joins=False)
    rules.flush("clear")
    newcomer.sharing.on_proof(clock())
    assert newcomer.sharing.is_trusted


def test_process_that_is_no_guardian_proves_nothing(rules, clock, shared):
    """It does not know what came before its subscription (rule 10)."""
    rules.sharing.on_proof(clock())
    newcomer = process(clock, shared, joins=False)
    clock.now += 0.1
    newcomer.sharing.on_proof(clock())
    assert shared.proven_at < clock()


def test_drop_that_cannot_be_had_ends_trust_until_all_is_dropped(rules, clock, shared):
    """The lock is kept by a stopped process (rule 14)."""
    fill(rules)
    with (hold := shared.hold(1.0)), hold:
        keeps = threading.Thread(target=rules.drop_shared, args=(K,))
        keeps.start()
        keeps.join()
        assert not rules.sharing.is_trusted
        rules.sharing.on_proof(clock())
        assert not rules.sharing.is_trusted
    rules.sharing.on_proof(clock())
    assert rules.sharing.is_trusted
    assert shared.look("k") is None


def test_second_read_of_a_key_is_known(rules):
    """L1 takes what was read twice."""
    assert not rules.sharing.is_second("k")
    assert rules.sharing.is_second("k")
    assert not rules.sharing.is_second("j")


def test_forked_child_has_none(rules):
    """Its lock would be the parent's: it opens the file anew when it subscribes."""
    rules.reset()
    assert rules.sharing.store is None
    assert rules.sharing.look("k") is None
    fill(rules)
