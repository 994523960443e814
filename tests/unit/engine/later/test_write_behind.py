"""``set(..., wait=False)``: seen at once here, sent soon, in the order of the calls."""

from __future__ import annotations

import os
import threading
from copy import deepcopy

import pytest
from redis import Redis

from cachebridge import Cache, L2Error
from cachebridge.core import write as limits
from cachebridge.engine.later.sender import Sender
from cachebridge.engine.outage.fallbacks import ResilientOperations
from cachebridge.waiting.io import THREADS, ThreadIO
from cachebridge.waiting.run import run
from tests.rig import (
    PATIENCE_S,
    PATIENT,
    engine_of,
    entries_of,
    eventually,
    l1_of,
    l2_of,
    listening,
    lone_cache,
    pending_deletes_of,
    rules_of,
    spying,
    write_behind_of,
)
from tests.sides import SIDES, on_side
from tests.stores import MESSAGES, MILLISECONDS
from tests.strikes import strike_everywhere
from tests.threadless import freeze, only_fork, refuse_threads

pytestmark = pytest.mark.every_store

LATE = {**PATIENT, "write_behind_ms": 10_000}
"""Options with which nothing is sent in the time of a test, unless it has to be."""


@pytest.fixture
def plain(place):
    """Return a cache on each kind of shared level, whose queue is in no hurry."""
    cache = lone_cache(place.location, key_prefix="later:", **place.options, **LATE)
    return cache if place.name == "memcached" else listening(cache)


@pytest.fixture(params=SIDES)
def cache(request, plain):
    return on_side(request.param, plain)


@pytest.fixture
def local():
    """Return a cache of the process's own memory, whose queue is in no hurry."""
    return listening(lone_cache("memory://later", **LATE))


def in_l2(cache, key):
    """Return the value that L2 has, without asking the cache."""
    raw, _ = l2_of(cache).get(cache._full_key_of(key))
    return (
        None if raw is None else engine_of(cache).values_for("pickle").decode("", raw)
    )


CALLS = {
    "get past L1": (lambda c: past_l1(c, "k"), 1, 1),
    "get_many past L1": (lambda c: past_l1(c, "k", "none"), {"k": 1}, 1),
    "has_key past L1": (lambda c: c.has_key("k"), True, 1),
    "set": (lambda c: c.set("k", 2), True, 2),
    "set_many": (lambda c: c.set_many({"k": 2}), [], 2),
    "add": (lambda c: c.add("k", 2), False, 1),
    "touch": (lambda c: c.touch("k", 100), True, 1),
    "incr": (lambda c: c.incr("k", 4), 5, 5),
    "delete": (lambda c: c.delete("k"), True, None),
    "delete_many": (lambda c: c.delete_many(["k", "none"]), 1, None),
    "set, over": (lambda c: c.set("k", 2, 0, wait=False), True, None),
    "get_or_load": (lambda c: past_l1(c, "k", load=lambda: 3), 1, 1),
    "clear": (lambda c: c.clear(), True, None),
    "close": (lambda c: engine_of(c).stop(), None, 1),
}


def past_l1(cache, *keys, load=None):
    l1_of(cache).pop(cache._full_key_of("k"))
    if load:
        return cache.get_or_load(*keys, load)
    return cache.get(*keys) if len(keys) == 1 else cache.get_many(keys)


@pytest.mark.parametrize("name", CALLS)
def test_every_other_call_comes_after_it(cache, plain, name):
    """A queued value is there for every call, and no later write is undone by it."""
    call, answer, left = CALLS[name]
    cache.set("k", 0)
    assert cache.set("k", 1, wait=False) is True
    assert in_l2(plain, "k") == 0
    if "L1" in name or "load" in name:
        l1_of(plain).pop(plain._full_key_of("k"))
    assert call(cache) == answer
    assert not write_behind_of(plain)
    assert in_l2(plain, "k") == left
    assert cache.get("k") == left
    assert rules_of(plain).is_idle()


@pytest.mark.only_on_redis(MESSAGES)
def test_a_call_past_l1_finds_it(plain):
    """Where L1 may not answer, or cannot, the value is sent first: a caller sees it."""
    plain.set("k", 1, wait=False)
    with plain.bypass_l1():
        assert plain.get("k") == 1
    plain.set("k", 2, wait=False)
    rules_of(plain).on_break()
    assert plain.get("k") == 2
    plain.set("throttle_k", 3, wait=False)
    assert plain.get("throttle_k") == 3
    plain.append("text", "a")
    plain.set("text", "b", wait=False)
    assert plain.append("text", "c") == 2
    assert plain.get("text") == "bc"


def test_l1_answers_while_it_waits(local):
    """A hit is a hit: nothing is sent for it, and the last value is the one."""
    before = local.stats()
    for number in range(10):
        local.set("k", number, wait=False)
        assert local.get("k") == number
    assert local.get_many(["k"]) == {"k": 9}
    stats = local.stats()
    assert stats.l1_hits - before.l1_hits == 11
    assert (stats.writes_queued, stats.writes_coalesced) == (10, 9)
    assert stats.writes_waiting == 1
    assert in_l2(local, "k") is None
    assert local.touch("other", 5) is False
    assert local.stats().writes_waiting == 1


@pytest.mark.only_on_redis(MESSAGES)
def test_one_request_and_one_message_for_all(redis_url):
    """What waited together goes together; a peer drops its copies, and then agrees."""
    peer = listening(lone_cache(redis_url, **PATIENT))
    peer.set_many({"a": 0, "b": 0})
    # Last: no message of an earlier write reaches it, which would empty its L1.
    cache = listening(lone_cache(redis_url, **PATIENT, write_behind_ms=20))
    assert peer.get_many(["a", "b"]) == {"a": 0, "b": 0}
    with spying(redis_url) as spy:
        engine_of(cache).write_behind._delay_s = 10.0
        for number in range(5):
            cache.set("a", number, wait=False)
            cache.set("b", number, wait=False)
        run(engine_of(cache).write_behind.before(THREADS, ["a"]))
        assert [sorted(each.keys) for each in spy.messages()] == [["a", "b"]]
    eventually(lambda: peer.get_many(["a", "b"]) == {"a": 4, "b": 4})
    assert entries_of(engine_of(cache)).keys() == {"a", "b"}


def test_it_is_sent_by_itself(place):
    """No caller asks for it, and the shared store has it; an idle thread sleeps."""
    cache = lone_cache(place.location, **place.options, **PATIENT, write_behind_ms=20)
    for number in range(3):
        cache.set("k", number, wait=False)
        eventually(lambda number=number: in_l2(cache, "k") == number)
    eventually(lambda: not write_behind_of(cache))
    eventually(lambda: write_behind_of(cache)._pause_s() is None)


@pytest.mark.parametrize("can_start", [True, False])
def test_the_thread_ends_during_a_call(monkeypatch, can_start):
    """The call starts another; where none can be, it sends the value itself."""
    cache = lone_cache("memory://ending", **PATIENT, write_behind_ms=20)
    sender, asked = write_behind_of(cache)._sender, []

    def ensure():
        asked.append(1)
        return len(asked) == 1 or (can_start and Sender.ensure(sender))

    monkeypatch.setattr(sender, "ensure", ensure)
    assert cache.set("k", 1, wait=False) is True
    if can_start:
        eventually(lambda: in_l2(cache, "k") == 1)
    assert in_l2(cache, "k") == 1


@pytest.mark.only_on_redis(MILLISECONDS)
def test_the_ttl_begins_at_the_call(redis_url):
    """What is left of it is sent; a value whose TTL is over then is gone."""
    cache = lone_cache(redis_url, **LATE)
    queue, rules = write_behind_of(cache), rules_of(cache)
    now = rules.clock()
    rules.clock = lambda: now
    cache._binding.coherent.for_threads._clock = rules.clock
    cache.set("k", "old")
    cache.set("k", 1, 100, wait=False)
    cache.set("short", 1, 5, wait=False)
    cache.set("ever", 1, None, wait=False)
    now += 40
    run(queue.before(THREADS, ["k", "short", "ever"]))
    assert 59_000 < l2_of(cache).get("k")[1] <= 60_000
    assert l2_of(cache).get("ever")[1] == -1
    eventually(lambda: in_l2(cache, "short") is None)


def test_what_cannot_be_stored_raises_at_once(cache):
    """So does an argument that is no bool; the old value stays."""
    cache.set("k", 1)
    with pytest.raises(Exception, match=r"'.*k' cannot be stored"):
        cache.set("k", lambda: None, wait=False)
    for wrong in (None, 0, 1, "no"):
        with pytest.raises(TypeError, match="wait must be True or False, not"):
            cache.set("k", 2, wait=wrong)
    assert cache.get("k") == 1


@pytest.mark.parametrize("kept", [[1], {"a": [1]}, {"a": 1}], ids=repr)
def test_later_changes_of_the_object_are_not_seen(local, kept):
    """The value is what it was at the call, here and in the shared store."""
    value = deepcopy(kept)
    local.set("k", value, wait=False)
    for changed in (value, local.get("k")):
        assert changed == kept
        if kept == {"a": [1]}:
            changed["a"].clear()
        changed.clear()
        assert local.get("k") == kept
    run(write_behind_of(local).before(THREADS, ["k"]))
    assert local.get("k") == in_l2(local, "k") == kept


def test_full_queue(local, monkeypatch):
    """The caller waits for its own value, and all that is queued is sent, too."""
    monkeypatch.setattr(limits, "WITH_OWN_TTLS", 3)
    for number in range(3):
        local.set(f"k{number}", number, wait=False)
    local.set("k0", "again", wait=False)
    local.set("k3", 3, wait=False)
    assert in_l2(local, "k3") == 3
    eventually(lambda: in_l2(local, "k2") == 2)
    assert local.get("k0") == "again"
    monkeypatch.setattr(limits, "MOST_BYTES", 1000)
    local.set("large", "x" * 2000, wait=False)
    local.set("small", "x" * 10, wait=False)
    assert in_l2(local, "small") == "x" * 10
    eventually(lambda: in_l2(local, "large"))


def test_a_peer_writes_meanwhile(plain, place):
    """Ours is written when it is sent: the last to be written stays, in both."""
    peer = lone_cache(place.location, key_prefix="later:", **place.options, **PATIENT)
    plain.set("k", "ours", wait=False)
    peer.set("k", "theirs")
    assert peer.get("k") == "theirs"
    run(write_behind_of(plain).before(THREADS, ["later:k"]))
    assert plain.get("k") == in_l2(peer, "k") == "ours"


def test_a_delete_releases_a_lock(cache, plain, place):
    """All that is queued is sent first: the next holder's write is not overwritten."""
    peer = lone_cache(place.location, key_prefix="later:", **place.options, **PATIENT)
    assert cache.add("lock", 1)
    cache.set("report", "first", wait=False)
    cache.set("ttl", "first", 60, wait=False)
    assert cache.delete("lock") is True
    assert peer.add("lock", 1)
    assert peer.get_many(["report", "ttl"]) == {"report": "first", "ttl": "first"}
    peer.set("report", "second")
    engine_of(plain).write_behind.close()
    assert in_l2(peer, "report") == "second"


def test_order_of_threads(local):
    """Of a thread's writes of either kind the last one stays, whatever others do."""
    failures = []

    def write(name):
        for number in range(150):
            local.set(name, number, wait=number % 3 == 0)
            local.set("shared", (name, number), wait=False)
            if local.get(name) != number:
                failures.append((name, number, local.get(name)))

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    shared = local.get("shared")
    local.close()
    assert shared[1] == 149


@pytest.mark.only_on_redis(MESSAGES)
@pytest.mark.parametrize("on_error", ["degrade", "raise"])
def test_values_that_cannot_be_sent_are_counted(redis_server_factory, on_error):
    """They are lost, their old values are owed a delete, and later callers are told.

    They are not sent later: another process may have written newer ones.
    """
    server = redis_server_factory()
    options = {"on_error": on_error, "write_behind_ms": 20, "breaker_failures": 1}
    cache = lone_cache(server.url, **options)
    cache.set("k", "old")
    server.kill()
    assert cache.set("k", "new", wait=False) is True
    eventually(lambda: cache.stats().writes_lost == 1)
    assert pending_deletes_of(cache).concern(("k",))
    if on_error == "raise":
        with pytest.raises(L2Error):
            cache.set("k", "newer", wait=False)
    else:
        assert cache.set("k", "newer", wait=False) is False
        assert cache.get("k") == "newer"  # in L1, until Redis has answered
    server.restart()
    if on_error == "degrade":
        with cache.bypass_l1():
            eventually(lambda: cache.get("k") is None and not pending_deletes_of(cache))
    assert rules_of(cache).is_idle()


@pytest.mark.only_on_redis(MESSAGES)
def test_a_value_that_redis_refuses_fails_alone(redis_server_factory):
    """Beside it the others arrive; L1 serves of each what a set would have left."""
    server = redis_server_factory()
    with Redis.from_url(server.url) as admin:
        admin.acl_setuser(
            "half",
            True,
            passwords=["+half"],
            categories=["+@all"],
            keys=["k*", "cachebridge*"],
            channels=["*"],
        )
        admin.set("bad", "")
    url = server.url.replace("//", "//half:half@")
    cache = listening(lone_cache(url, **LATE))
    cache.set_many({f"k{number}": "old" for number in range(5)})
    for number in range(4):
        cache.set(f"k{number}", number, wait=False)
    cache.set("bad", "x", wait=False)
    cache.set("k4", 4, wait=False)
    run(write_behind_of(cache).before(THREADS, ["bad"]))
    assert cache.stats().writes_lost == 1
    assert [in_l2(cache, f"k{number}") for number in range(5)] == [0, 1, 2, 3, 4]
    assert cache.get_many([f"k{n}" for n in range(5)]) == {f"k{n}": n for n in range(5)}
    assert cache.get("bad") is None
    assert not pending_deletes_of(cache)
    assert rules_of(cache).is_idle()


GIVES_UP = {
    "set": lambda cache: cache.set("k", "later"),
    "delete": lambda cache: cache.delete("k"),
    "delete_many": lambda cache: cache.delete_many(["k", "none"]),
    "clear": lambda cache: cache.clear(),
}


@pytest.mark.only_on_redis(MESSAGES)
@pytest.mark.parametrize("on_error", ["degrade", "raise"])
@pytest.mark.parametrize("name", GIVES_UP)
def test_a_write_that_gives_up_is_not_undone(redis_server_factory, name, on_error):
    """What it would have waited for is lost, however many lanes are before it."""
    server = redis_server_factory()
    patience = {
        "socket_timeout": 0.2,
        "socket_connect_timeout": 0.2,
        "breaker_failures": 99,
    }
    options = {**patience, "write_behind_ms": 10_000, "on_error": on_error}
    lanes = [
        Cache(server.url, key_prefix=f"{number}:", **options) for number in range(4)
    ]
    cache = lanes[-1]
    for each in lanes:
        each.set("k", "old")
        each.set("k", "queued", wait=False)
    server.pause()
    if on_error == "raise":
        with pytest.raises(L2Error):
            GIVES_UP[name](cache)
    else:
        assert not GIVES_UP[name](cache) or name == "delete_many"
    owed = pending_deletes_of(cache)  # by the write, or by what was being sent
    eventually(lambda: owed.concern((cache._full_key_of("k"),)))
    assert cache.stats().writes_lost >= 1
    server.resume()
    eventually(lambda: not write_behind_of(cache).latest)
    with cache.bypass_l1():
        eventually(lambda: cache.get("k", "none") == "none")
    assert in_l2(cache, "k") is None
    eventually(rules_of(cache).is_idle)
    for each in lanes:
        each.close()


def test_the_wait_for_several_writes_is_bounded_in_all(local):
    """The second write is waited for as long as the first has left, not anew."""
    queue, rules = write_behind_of(local), rules_of(local)
    local.set("k", 1, wait=False)
    local.set("ever", 1, None, wait=False)
    now, waits = rules.clock(), []
    rules.clock = lambda: now

    class SlowIO(ThreadIO):
        async def wait(self, signal, timeout_s=None):
            nonlocal now
            waits.append(timeout_s)
            now += 0.75 * queue._patience_s
            return signal.wait(PATIENCE_S)

    assert run(queue.before(SlowIO(), ["k", "ever"])) is None
    assert waits == pytest.approx([queue._patience_s, 0.25 * queue._patience_s])


def test_an_interrupted_close_leaves_nothing_unsent(local, monkeypatch):
    """What was being sent is lost, and counted; a thread sends all else."""
    queue, send = write_behind_of(local), ResilientOperations.send
    local.set("k", 1, wait=False)
    local.set("ever", 1, None, wait=False)

    async def be_interrupted(_self, write):
        monkeypatch.setattr(ResilientOperations, "send", send)
        with write, write:
            raise KeyboardInterrupt

    monkeypatch.setattr(ResilientOperations, "send", be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.close()
    eventually(lambda: not queue.latest)
    assert local.stats().writes_lost == 1
    assert (in_l2(local, "k"), in_l2(local, "ever")) == (None, 1)
    assert rules_of(local).is_idle()


@pytest.mark.only_on_redis(MESSAGES)
def test_an_engine_that_finds_another_empties_its_queue(redis_url):
    """No call of the other would wait for it; from then on nothing is queued."""
    first = listening(Cache(redis_url, key_prefix="one:", **LATE))
    write_behind_of(first)._delay_s = 1000.0
    first.set("k", "old")
    first.set("k", "queued", wait=False)
    other = redis_url.replace("127.0.0.1", "localhost")
    second = listening(Cache(other, key_prefix="one:", **LATE))
    eventually(lambda: rules_of(first).siblings)
    eventually(lambda: not write_behind_of(first).latest)
    assert second.get("k") == "queued"
    assert second.delete("k") is True
    assert first.set("new", 1, wait=False) is True
    assert in_l2(first, "new") == 1
    first.close()
    assert in_l2(second, "k") is None
    second.close()


@pytest.mark.only_on_redis(MESSAGES)
def test_a_child_sends_only_its_own(redis_url):
    """After a fork each process sends what it has queued, once."""
    cache = listening(lone_cache(redis_url, **LATE))
    cache.set("parent", 1, wait=False)
    pid = os.fork()
    if pid == 0:
        try:
            assert in_l2(cache, "parent") is None
            cache.set("child", 2, wait=False)
            assert cache.stats().writes_waiting == 1
            assert cache.get("child") == 2
            engine_of(cache).stop()
            os._exit(0 if in_l2(cache, "parent") is None else 1)
        finally:
            os._exit(99)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert in_l2(cache, "child") == 2
    assert cache.get("parent") == 1
    engine_of(cache).stop()
    assert in_l2(cache, "parent") == 1


@pytest.mark.parametrize("forbid", [refuse_threads, only_fork, freeze, None])
def test_where_nothing_can_be_queued_the_caller_waits(monkeypatch, forbid):
    """No thread could send it, or another engine has to hear of it first."""
    cache, other = (lone_cache("memory://", **LATE) for _ in range(2))
    with monkeypatch.context() as patch:
        if forbid is not None:
            forbid(patch)
        else:
            patch.setattr(rules_of(cache), "siblings", (rules_of(other),))
        assert cache.set("k", 1, wait=False) is True
        assert in_l2(cache, "k") == 1
    assert cache.stats().writes_queued == 0


def test_a_task_suspends_for_nothing(local):
    """The coroutine ends in its first step."""
    coroutine = local.aset("k", [1], wait=False)
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    assert ended.value.value is True
    assert local.stats().writes_waiting == 1


def test_two_caches_share_the_queue(redis_url):
    """Another cache of the process, with other options, reads and writes in order."""
    first = Cache(redis_url, **LATE)
    second = Cache(redis_url, on_error="raise", **LATE)
    first.set("k", 1, wait=False)
    assert second.get("k") == 1
    first.set("k", 2, wait=False)
    second.set("k", 3, wait=False)
    assert first.get("k") == 3
    first.set("k", 4, None, wait=False)
    first.set("k", 5, 10, wait=False)
    first.close()
    assert second.get("k") == 5
    second.close()


@pytest.mark.proof
def test_a_strike_in_a_call():
    """An exception that strikes leaves no write behind, and no thread that waits."""
    cache = listening(lone_cache("memory://struck", **LATE))
    queue, made = write_behind_of(cache), 0

    def call():
        nonlocal made
        made += 1
        cache.set(f"k{made}", made, wait=False)

    def check(_number):
        key = f"k{made}"
        assert cache.get(key) in {None, made}
        cache.set(key, "after")
        run(queue.before(THREADS, [*queue.latest]))
        with cache.bypass_l1():
            assert cache.get(key) == "after"
        eventually(rules_of(cache).is_idle)

    assert strike_everywhere(call, check, within="cachebridge") > 20
