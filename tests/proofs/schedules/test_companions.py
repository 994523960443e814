"""Every order of loads, writes and other programs' commands: companions (I27).

A lease, a stale copy and a mark of absence serve only what they were made for.  The
callers ask a real server; a model beside it says what it has to answer.  A key's TTL
ends by a step: the value goes, and its record says that it was due.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

import pytest
import redis
from pymemcache.client.base import Client

from cachebridge.core.lease import LeaseGet, LeaseState, LeaseTerms, LoadedRaw
from cachebridge.l2.memcached import protocol
from cachebridge.l2.redis import load_scripts, scripts
from cachebridge.l2.redis.commands import make_script
from cachebridge.l2.redis.names import PLAIN
from cachebridge.testing.contracts.message_contract import StoreFace
from tests.proofs.schedules.orders import orders
from tests.rig import l2_of, lone_cache

MINUTE_MS = 60_000
TERMS = LeaseTerms(MINUTE_MS, stale_ms=MINUTE_MS)
STEPS = {"L": 2, "N": 2, "F": 2, "U": 2}
"""Those of a lease-get and what follows; every other letter is one step."""
EXPIRE = """local left = redis.call('PTTL', KEYS[1])
if left < 0 then return 0 end
local e, t = redis.call('HGET', KEYS[2], 'e'), redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
if e and math.abs(now + left - e) <= 50 then
  redis.call('HSET', KEYS[2], 'e', now - 1000)
end
return redis.call('DEL', KEYS[1])"""
pytestmark = pytest.mark.proof
_numbers = count()


@dataclass
class Model:
    """What is true of the key."""

    value: bytes | None = None
    copy: bytes | None = None
    """What a stale copy may be of."""
    is_absent: bool = False
    """Whether a loader has said so, and nothing has changed since."""
    changes: int = 0
    """What voids a load: writes, and other programs' changes."""

    def change(self, value):
        self.value, self.copy, self.is_absent = value, None, False
        self.changes += 1

    def judge(self, lease, *, is_refresh=False):
        """Say whether the answer to a lease-get is the right one."""
        if self.is_absent:
            assert lease.state is LeaseState.ABSENT, f"I27: {lease} of what is absent"
        elif self.value is not None and not is_refresh:
            assert (lease.state, lease.raw) == (LeaseState.HIT, self.value), "I27"
        elif self.copy is not None and not is_refresh:
            assert (lease.state, lease.raw) == (LeaseState.STALE, self.copy), "I27"
        else:
            free = {LeaseState.LEASE, LeaseState.BUSY}
            assert lease.state in free, f"I27: {lease} serves what is not there"


class RedisServer:
    """How other programs change a key in Redis."""

    def __init__(self, url):
        self.store = StoreFace(l2_of(lone_cache(url)))
        self.client = redis.Redis.from_url(url)
        self._expire = self.client.register_script(EXPIRE)

    def set(self, key, raw):
        self.client.set(key, raw)

    def delete(self, key):
        return self.client.delete(key)

    def rename(self, key):
        return bool(self.client.exists(key) and self.client.rename(key, "elsewhere"))

    def shorten(self, key):
        return self.client.pexpire(key, MINUTE_MS // 2)

    def expire(self, key):
        return self._expire(PLAIN.with_record(key), ())


class MemcachedServer:
    """The same in Memcached, where a delete also takes what stands for no value."""

    def __init__(self, url, host, port):
        self.store = StoreFace(l2_of(lone_cache(url)))
        self.client = Client((host, port))

    def set(self, key, raw):
        self.client.set(key, raw, noreply=False)

    def delete(self, key):
        self.client.delete(key, noreply=False)
        return True


class World:
    """One schedule on a key of its own."""

    def __init__(self, server, programs, warm):
        self.server = server
        self.store = server.store
        self.key = f"companion-{next(_numbers)}"
        self.model = Model()
        self.leases = [None] * len(programs)
        self.programs = programs
        if warm:
            self.take(warm, 0)
            self.take(warm, 0)

    def step(self, caller):
        self.take(self.programs[caller], caller)

    def take(self, letter, caller):
        """Take the next step of one caller."""
        raw = b"%d" % next(_numbers)
        if letter not in STEPS:
            self.change(letter, raw)
        elif self.leases[caller] is None:
            self.leases[caller] = self.ask(raw, is_refresh=letter == "U")
        else:
            self.end(letter, *self.leases[caller], raw)
            self.leases[caller] = None

    def change(self, letter, raw):
        """Let the key be changed, by us (W, X, T), another program, or time (E)."""
        model, key = self.model, self.key
        match letter:
            case "W":
                self.store.store([(key, raw)], MINUTE_MS, None)
                model.change(raw)
            case "X":
                self.store.delete([key], None)
                model.change(None)
            case "T":
                is_there = self.store.touch(key, 2 * MINUTE_MS, None)
                assert is_there == (model.value is not None)
            case "S":
                self.server.set(key, raw)
                model.change(self.store.get(key)[0])
            case "D" | "R":
                remove = self.server.delete if letter == "D" else self.server.rename
                if remove(key):
                    model.change(None)
            case "P" if self.server.shorten(key):
                model.change(model.value)
            case "E" if self.server.expire(key):
                model.value = None

    def ask(self, token, *, is_refresh=False):
        terms = TERMS._replace(is_refresh=is_refresh)
        lease = self.store.get_or_lease(self.key, token, terms)
        self.model.judge(lease, is_refresh=is_refresh)
        return lease, self.model.changes

    def end(self, letter, lease: LeaseGet, changes, raw):
        if lease.state is not LeaseState.LEASE:
            return
        model, key = self.model, self.key
        if letter == "F":
            self.store.release(key, lease, 0, None)
            return
        if letter == "N":
            reply = self.store.store_absent(key, MINUTE_MS, lease, None)
        else:
            loaded = LoadedRaw(raw, MINUTE_MS, MINUTE_MS, 7)
            reply = self.store.store_loaded(key, loaded, lease, None)
        assert reply.stored == (changes == model.changes), f"I27: {reply}"
        if reply.stored:
            model.change(None if letter == "N" else raw)
            model.copy = model.value
            model.is_absent = letter == "N"


COLD, LOADED, ABSENT = "", "L", "N"
IN_BOTH = [
    (COLD, "LLW"),
    (COLD, "LWX"),
    (COLD, "LNS"),
    (COLD, "FNSF"),
    (COLD, "LDF"),
    (LOADED, "USF"),
    (LOADED, "UDF"),
    (LOADED, "UUWF"),
    (ABSENT, "FSL"),
    (ABSENT, "LWX"),
]
IN_REDIS = [
    (LOADED, "UTWF"),
    (LOADED, "UEDF"),
    (LOADED, "UPF"),
    (LOADED, "ETFS"),
    (LOADED, "EDFF"),
    (LOADED, "ERL"),
    (LOADED, "EPTF"),
    (LOADED, "EUTF"),
    (LOADED, "EWF"),
]
SCENARIOS = [
    *[("redis", *each) for each in (*IN_BOTH, *IN_REDIS)],
    *[("memcached", *each) for each in IN_BOTH],
]
IDS = ["-".join(filter(None, each)) for each in SCENARIOS]


@pytest.fixture
def server_of(request, redis_url):
    """Return a function that makes a server of a kind."""
    made = []

    def make(kind):
        if kind == "redis":
            made.append(RedisServer(redis_url))
        else:
            shared = request.getfixturevalue("shared_memcached")
            made.append(MemcachedServer(shared.url, shared.host, shared.port))
        return made[-1]

    yield make
    for each in made:
        each.client.close()


def explore(server, warm, programs):
    """Take every order, and read at the end of each; return how many there are."""
    schedules = 0
    for order in orders([STEPS.get(letter, 1) for letter in programs]):
        schedules += 1
        world = World(server, programs, warm)
        try:
            for caller in order:
                world.step(caller)
            world.ask(b"last")
        except AssertionError as exc:
            path = "".join(programs[caller] for caller in order)
            raise AssertionError(f"{exc}, in {path} after {warm!r}") from exc
    return schedules


@pytest.mark.parametrize(("kind", "warm", "programs"), SCENARIOS, ids=IDS)
def test_no_order_breaks_a_promise(server_of, kind, warm, programs):
    """Each answer is true of the key as it is, and no load is stored over a change."""
    assert explore(server_of(kind), warm, programs) >= 12


def rewritten(script, old, new):
    """Return the script with a part of its text changed."""
    text = script.text.decode()
    assert old in text
    return make_script(text.replace(old, new), idempotent=script.idempotent)


BELIEVED = (
    "local function belongs(h, e, raw, now)",
    "\n  if true then return true end",
)
MUTANTS = {
    "any copy is believed": (
        (load_scripts, "GET_OR_LEASE", BELIEVED[0], "".join(BELIEVED)),
        ("redis", LOADED, "EDFF"),
    ),
    "any copy is believed, renamed": (
        (load_scripts, "GET_OR_LEASE", BELIEVED[0], "".join(BELIEVED)),
        ("redis", LOADED, "ERL"),
    ),
    "a load asks for its generation alone": (
        (load_scripts, "STORE_LOADED", BELIEVED[0], "".join(BELIEVED)),
        ("redis", LOADED, "USF"),
    ),
    "a mark asks for its generation alone": (
        (load_scripts, "STORE_ABSENT", "or not r[2] and not raw", "or not r[2]"),
        ("redis", COLD, "LNS"),
    ),
    "touch leaves the record behind": (
        (load_scripts, "TOUCH", "if r then", "if false then"),
        ("redis", LOADED, "ETFS"),
    ),
    "touch takes any record along": (
        (load_scripts, "TOUCH", BELIEVED[0], "".join(BELIEVED)),
        ("redis", LOADED, "EPTF"),
    ),
    "a delete leaves the record": (
        (scripts, "DELETE", "redis.call('UNLINK', KEYS[2])", ""),
        ("redis", COLD, "LWX"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_caught(server_of, monkeypatch, name):
    """Without the rule some order goes wrong."""
    (module, script, old, new), (kind, warm, programs) = MUTANTS[name]
    changed = rewritten(getattr(module, script), old, new)
    monkeypatch.setattr(module, script, changed)
    with pytest.raises(AssertionError, match="I27"):
        explore(server_of(kind), warm, programs)


def test_a_mutant_without_cas_numbers(server_of, monkeypatch):
    """In Memcached the CAS number of the item is what voids a load."""

    def swap(name, flags, expiry, block, _cas):
        return protocol.put(b"set", name, flags, expiry, block)

    monkeypatch.setattr(protocol, "swap", swap)
    with pytest.raises(AssertionError, match="I27"):
        explore(server_of("memcached"), COLD, "LWX")
