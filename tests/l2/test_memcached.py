"""What is Memcached's own: names, flags, limits, clears that are lost, several servers.

What it has in common with other stores stands in ``test_contract.py``.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from contextlib import ExitStack
from itertools import count

import pytest
from pymemcache.client.base import Client

from cachebridge.core.lease import LoadedRaw, LookState, LookTerms
from cachebridge.errors import ConfigError, L2Error, L2UnavailableError
from cachebridge.l2.location import parse_location
from cachebridge.l2.memcached import clears
from cachebridge.l2.memcached.clears import MAX_PREFIXES, Clears
from cachebridge.l2.memcached.names import CLEARS, MAX_BYTES, name_of
from cachebridge.l2.memcached.protocol import MONTH_S, MemcachedError, Parser
from cachebridge.testing import memcached_server
from cachebridge.testing.servers import find_memcached
from tests.l2.conftest import join_addresses, open_memcached
from tests.l2.test_contract import KeptMessages
from tests.rig import eventually

MINUTE_MS = 60_000
TERMS = LookTerms(MINUTE_MS)
HOSTILE = (
    "x\r\nflush_all\r\n",
    "x\r\ndelete canary\r\n",
    "nul\0byte",
    "with space",
    "\t",
    "",
    "é" * 126,  # 252 bytes
    "k" * 251,
    "lone \ud800 surrogate",
    "\x7f",
    CLEARS.decode(),
    "cachebridge-key:" + "0" * 64,
    "x" * 100_000,
)


@pytest.fixture
def server():
    with memcached_server() as server:
        yield server


@pytest.fixture
def store(server):
    store = open_memcached(server.url, KeptMessages())
    yield store
    store.close()


@pytest.fixture
def raw(server):
    """Return a plain client of the same server."""
    client = Client((server.host, server.port), default_noreply=False)
    yield client
    client.close()


# -- names -----------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "p:"])
@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: ascii(key[:14]))
def test_hostile_keys(store, raw, key, prefix):
    """No key, and no prefix, reaches the server as anything but a name."""
    raw.set("canary", b"alive")
    for full_key in (prefix + key, key + prefix):
        store.store([(full_key, b"1")], MINUTE_MS, None)
        assert store.get(full_key)[0] == b"1"
        assert store.incr(full_key, 1, None) in {2, "not an integer"}
        assert store.delete([full_key], None) == 1
        assert store.add(full_key, b"2", None, None)
        look = store.look(full_key + "2", b"token \r\n", TERMS)
        assert store.store_loaded(
            full_key + "2", LoadedRaw(b"3", MINUTE_MS), look, None
        ).stored
        reads = store.get_many([full_key, full_key + "2"])
        assert reads == [(b"2", -1), (b"3", MINUTE_MS)]
        store.clear(full_key, bytes)
        assert store.get(full_key) == (None, -2)
    assert raw.get("canary") == b"alive"
    assert store.get(CLEARS.decode()) == (None, -2)


def test_names_are_the_keys_where_they_can_be():
    """Other clients find what we store; 250 bytes are a name, 251 are not."""
    for key in ("k", ":1:key", "é", "x" * MAX_BYTES, "\U0001f600" * 62):
        assert name_of(key) == (key.encode(), False)
    for key in HOSTILE:
        name, is_hashed = name_of(key)
        assert is_hashed
        assert len(name) <= MAX_BYTES
        assert name.isascii()
        assert name.decode().isprintable()
        assert b" " not in name


def test_a_hash_is_not_taken_for_a_key(store, raw):
    """Under a hashed name only the very key's value is read."""
    store.store([("a b", b"1")], None, None)
    name, _ = name_of("a b")
    block = raw.get(name.decode())
    other, _ = name_of("c d")
    flags = int(raw.raw_command(b"mg " + name + b" f").split()[1][1:])
    raw.set(other.decode(), block, flags=flags)
    assert store.get("a b") == (b"1", -1)
    assert store.get("c d") == (None, -2)
    raw.set(other.decode(), b"somebody's own")
    assert store.get("c d") == (None, -2)
    assert not store.exists("c d")
    assert store.add("c d", b"2", None, None)
    assert store.get("c d") == (b"2", -1)


# -- limits ----------------------------------------------------------------------------


def test_too_large(store, raw):
    """What the server has no room for stays out, with its old value; others come in."""
    huge = b"x" * (1 << 20)
    store.store([("k", b"old"), ("l", b"old")], None, None)
    refused = store.store([("k", huge), ("l", b"new")], None, None)
    assert refused == ["k"]
    assert store.get_many(["k", "l"]) == [(None, -2), (b"new", -1)]
    assert raw.get("k") is None
    assert store.add("k", huge, None, None) is False
    assert store.get("k") == (None, -2)
    with pytest.raises(L2Error, match="no room for l"):
        store.replace("l", b"new", huge, None)
    look = store.look("m", b"a", TERMS)
    assert not store.store_loaded("m", LoadedRaw(huge, None), look, None).stored
    assert store.look("m", b"b", TERMS).state is LookState.LEASE


@pytest.mark.parametrize("seconds", [MONTH_S, MONTH_S + 1, 5 * 365 * 24 * 3600])
def test_long_ttls(store, seconds):
    """A TTL of over thirty days is no date in 1970."""
    store.store([("k", b"1")], seconds * 1000, None)
    _, ttl_ms = store.get("k")
    assert abs(ttl_ms / 1000 - seconds) <= 2
    assert store.touch("k", MINUTE_MS, None)
    assert store.touch("k", seconds * 1000, None)
    assert abs(store.get("k")[1] / 1000 - seconds) <= 2


def test_ttls_are_rounded_up(store):
    """Less than a second is no reason to store nothing, or for ever."""
    store.store([("k", b"1"), ("l", b"1")], [1001, 2000], None)
    assert [ttl_ms for _, ttl_ms in store.get_many(["k", "l"])] == [2000, 2000]


def test_counting_keeps_the_ttl(store):
    """Whatever the server counts itself keeps its TTL exactly, both ways."""
    store.store([("k", b"10")], 5 * MINUTE_MS, None)
    eventually(lambda: store.get("k")[1] < 5 * MINUTE_MS)
    for delta in (5, -3, 0, -12):
        store.incr("k", delta, None)
    raw, ttl_ms = store.get("k")
    assert raw == b"0"
    assert ttl_ms < 5 * MINUTE_MS


def test_subtracting_races(store):
    """Subtractions at the same time never go below zero, and none is lost."""
    store.store([("k", b"100")], None, None)
    answers = []

    def subtract():
        answers.extend([store.incr("k", -1, None) for _ in range(30)])

    threads = [threading.Thread(target=subtract) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each for each in answers if type(each) is int) == list(range(100))
    assert answers.count("not an integer") == 20
    assert store.get("k")[0] == b"0"


def test_round_trips(store, monkeypatch):
    """A hit costs one, a cold load one more than without a lease."""
    store.get("k")  # learns what has been cleared
    store.get("k")
    carrier, asked = store._cluster.nodes[0].carrier, []
    run = carrier.run
    monkeypatch.setattr(carrier, "run", lambda request: asked.append(1) or run(request))

    def count_of(call):
        asked.clear()
        call()
        return len(asked)

    assert count_of(lambda: store.get("k")) == 1
    assert count_of(lambda: store.store([("k", b"1")], None, None)) == 1
    assert count_of(lambda: store.get_many([f"k{n}" for n in range(100)])) == 1
    assert count_of(lambda: store.look("k", b"a", TERMS)) == 1
    assert count_of(lambda: store.incr("k", 1, None)) == 1
    assert count_of(lambda: store.delete(["k"], None)) == 1
    assert count_of(lambda: store.add("k", b"1", None, None)) == 1
    looks = []
    assert count_of(lambda: looks.append(store.look("cold", b"a", TERMS))) == 2
    loaded = LoadedRaw(b"1", None)
    stores = count_of(lambda: store.store_loaded("cold", loaded, looks[0], None))
    assert stores == 1


# -- what has been cleared -------------------------------------------------------------


def test_a_load_from_before_a_clear(store):
    """What was loaded before a clear is not stored after it, nor is its absence."""
    for stores in (
        lambda look: store.store_loaded("p:k", LoadedRaw(b"old", None), look, None),
        lambda look: store.store_absent("p:k", MINUTE_MS, look, None),
    ):
        look = store.look("p:k", b"a", TERMS)
        store.clear("p:", bytes)
        assert not stores(look).stored
        assert store.get("p:k") == (None, -2)
        again = store.look("p:k", b"a", TERMS)
        assert again.state is LookState.LEASE
        assert stores(again).stored


def test_another_process_clears(store, server):
    """Every process sees a clear at once, whatever it knew before."""
    other = open_memcached(server.url, KeptMessages())
    for number in range(3):
        store.store([("p:k", b"%d" % number)], None, None)
        other.clear("p:", bytes)
        assert store.get("p:k") == (None, -2)
        store.store([("p:k", b"again"), ("p:l", b"1")], None, None)
        assert other.get_many(["p:k", "p:l"]) == [(b"again", -1), (b"1", -1)]
        other.clear("p:", bytes)
        assert store.add("p:k", b"added", None, None)
        assert other.get("p:k") == (b"added", -1)
        other.clear("q:", bytes)
        assert store.add("p:new", b"1", None, None)
        store.delete(["p:new"], None)


def test_the_list_of_clears_is_lost(store, raw, monkeypatch):
    """If the server evicts it, all that may have been cleared is gone."""
    monkeypatch.setattr(clears, "_now", count(1_000_000, 10).__next__)
    store.store([("p:k", b"1"), ("q:k", b"1")], None, None)
    store.clear("p:", bytes)
    store.clear("p:", bytes)
    raw.delete(CLEARS.decode())
    assert store.get_many(["p:k", "q:k"])[0] == (None, -2)
    store.store([("p:k", b"2")], None, None)
    assert store.get("p:k") == (b"2", -1)
    raw.set(CLEARS.decode(), b"spoilt")
    assert store.get("p:k") is not None
    store.store([("p:k", b"3")], None, None)
    assert store.get("p:k") == (b"3", -1)


def test_strangers_live_until_the_first_clear(store, raw):
    """Items without a stamp are read, and are gone with the first clear."""
    raw.set("p:k", b"7", flags=2)
    raw.set("q:k", b"7", flags=2)
    assert store.get_many(["p:k", "q:k"]) == [(b"7", -1)] * 2
    assert store.incr("p:k", 1, None) == 8
    store.clear("p:", bytes)
    assert store.get_many(["p:k", "q:k"]) == [(None, -2), (b"7", -1)]


def test_clears_are_bounded():
    """Of many prefixes the oldest become a clear of everything of their time."""
    known = Clears.begin()
    first = known.latest
    for number in range(MAX_PREFIXES + 10):
        known = known.cleared(f"p{number:04}:")
    assert len(known.prefixes) == MAX_PREFIXES
    assert known.is_dead("anything", first)
    assert known.is_dead("anything", 0)
    assert known.is_dead("p0000:k", first + 1)
    assert not known.is_dead("p0000:k", known.latest)
    assert known.is_dead("anything", known.latest + 1)
    assert len(known.raw) < 2_000
    assert Clears.parse(known.raw) == known


def test_a_clear_covers_what_begins_so():
    """Of nested prefixes the later clear counts, whichever is longer."""
    known = Clears.begin().cleared("a:b:").cleared("a:")
    assert list(known.prefixes) == ["a:"]
    assert known.is_dead("a:b:k", known.latest - 1)
    later = known.cleared("a:b:")
    assert later.is_dead("a:b:k", known.latest)
    assert not later.is_dead("a:c:k", known.latest)
    assert json.loads(later.raw)[2].keys() == {"a:", "a:b:"}


# -- replies ---------------------------------------------------------------------------


def test_replies_in_pieces():
    """However the stream is cut, the same replies come out of it."""
    stream = (
        b"VA 4 f1 t-1 c9\r\n\r\nEN\r\nEN\r\nHD\r\nSERVER_ERROR no\r\nVA 0\r\n\r\n5\r\n"
    )
    whole = Parser().feed(stream)
    assert [type(reply) for reply in whole].count(MemcachedError) == 1
    assert whole[0].block == b"\r\nEN"
    for size in (1, 2, 3, 7):
        parser, replies = Parser(), []
        for start in range(0, len(stream), size):
            replies += parser.feed(stream[start : start + size])
        assert list(map(str, replies)) == list(map(str, whole))


@pytest.mark.parametrize(
    "stream", [b"x" * 5000, b"VA x\r\n", b"VA\r\n", b"VA 1\r\nabcd"]
)
def test_no_replies(stream):
    """What is no reply ends the connection."""
    parser = Parser()
    if stream == b"VA\r\n":
        assert parser.feed(stream)[0].block is None
        return
    with pytest.raises(ConnectionError):
        parser.feed(stream)


def test_an_old_server():
    """A server without meta commands is named as what it is."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"ERROR\r\nERROR\r\n")
                connection.recv(1000)

        thread = threading.Thread(target=answer)
        thread.start()
        port = listening.getsockname()[1]
        store = open_memcached(f"memcached://127.0.0.1:{port}", KeptMessages())
        with pytest.raises(L2Error, match=r"Memcached 1\.6\.10 is needed"):
            store.get("k")
        store.close()
        thread.join()


# -- several servers -------------------------------------------------------------------


@pytest.fixture
def servers():
    with ExitStack() as running:
        yield [running.enter_context(memcached_server()) for _ in range(3)]


@pytest.fixture
def ring(servers):
    url = join_addresses(server.url for server in servers)
    return open_memcached(url, KeptMessages(), socket_timeout=0.5)


def keys_by_server(ring, count=60):
    """Return keys of each server, in the order of the servers."""
    keys = [f"k{number}" for number in range(count)]
    shards = ring._cluster.split(keys)
    shards.sort(key=lambda shard: ring._cluster.number_of(shard[0].encode()))
    return shards


def test_one_of_several_is_away(ring, servers):
    """Only its keys fail, and they are back with it, empty."""
    shards = keys_by_server(ring)
    assert len(shards) == 3
    every = [key for shard in shards for key in shard]
    ring.store([(key, b"1") for key in every], None, None)
    servers[1].kill()
    for number, shard in enumerate(shards):
        if number == 1:
            with pytest.raises(L2UnavailableError):
                ring.get_many(shard)
        else:
            assert ring.get_many(shard) == [(b"1", -1)] * len(shard)
    ring.ping()
    assert ring._cluster.away() == [f"memcached://127.0.0.1:{servers[1].port}"]
    servers[1].restart()
    assert ring.get_many(shards[1]) == [(None, -2)] * len(shards[1])
    ring.ping()
    assert ring._cluster.away() == []


def test_all_are_away(ring, servers):
    """Then a ping fails, too."""
    for server in servers:
        server.kill()
    with pytest.raises(L2UnavailableError):
        ring.ping()
    with pytest.raises(L2UnavailableError):
        ring.clear("k", bytes)


def test_a_clear_while_one_is_away(ring, servers):
    """The server that comes back with its old items is cleared before it is read."""
    shards = keys_by_server(ring)
    ring.store([(key, b"1") for shard in shards for key in shard], None, None)
    servers[1].pause()
    assert ring.clear("k", bytes) is False
    servers[1].resume()
    assert ring.get_many([key for shard in shards for key in shard]) == [
        (None, -2)
    ] * sum(map(len, shards))


def test_a_clear_that_is_owed_is_paid(ring, servers):
    """Also if nothing else is asked of the server: then others need not read it."""
    shards = keys_by_server(ring)
    ring.store([(key, b"1") for key in shards[1]], None, None)
    servers[1].pause()
    ring.clear("k", bytes)
    servers[1].resume()
    ring.ping()
    url = join_addresses(server.url for server in servers)
    other = open_memcached(url, KeptMessages())
    assert other.get_many(shards[1]) == [(None, -2)] * len(shards[1])


# -- connections -----------------------------------------------------------------------


def test_a_socket_in_the_file_system(tmp_path):
    """A path is as good an address."""
    path = tmp_path / "memcached.sock"
    as_root = ["-u", "root"] if os.geteuid() == 0 else []
    process = subprocess.Popen([find_memcached(), "-s", str(path), *as_root])
    try:
        eventually(path.exists)
        store = open_memcached(f"memcached://unix:{path}", KeptMessages())
        store.store([("k", b"1")], None, None)
        assert store.get("k") == (b"1", -1)
        store.close()
    finally:
        process.kill()
        process.wait()


def test_no_connection_is_shared_by_threads(store):
    """Threads get their own answers, however many there are."""
    store.store([(f"k{number}", b"%d" % number) for number in range(50)], None, None)
    wrong = []

    def read(me):
        reads = [store.get(f"k{me}")[0] for _ in range(200)]
        wrong.extend([raw for raw in reads if raw != b"%d" % me])

    threads = [threading.Thread(target=read, args=(me,)) for me in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_interrupted_connection_is_not_used_again(store, server):
    """A reply that came too late answers nobody."""
    impatient = open_memcached(server.url, KeptMessages(), socket_timeout=0.1)
    impatient.store([("a", b"1"), ("b", b"2")], None, None)
    server.pause()
    with pytest.raises(L2UnavailableError):
        impatient.get("a")
    server.resume()
    assert impatient.get("b") == (b"2", -1)


def test_a_child_has_connections_of_its_own(store):
    """A forked child and its parent go on side by side."""
    store.store([("k", b"1")], None, None)
    child = os.fork()
    if not child:
        store.forget()
        ok = all(store.get("k") == (b"1", -1) for _ in range(200))
        os._exit(0 if ok else 1)
    assert all(store.get("k") == (b"1", -1) for _ in range(200))
    assert os.waitpid(child, 0)[1] == 0


# -- the location ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("memcached://a", ["a:11211"]),
        ("memcached://a:1,b:2/", ["a:1", "b:2"]),
        ("memcached://[::1]:1, 10.0.0.1", ["::1:1", "10.0.0.1:11211"]),
        ("memcached://unix:/run/m.sock,b", ["/run/m.sock", "b:11211"]),
    ],
)
def test_locations(url, names):
    """Servers stand side by side in one URL; their order makes no difference."""
    location = parse_location(url)
    assert [server.name for server in location.servers] == names
    assert location.identity == ("memcached", *sorted(names))


@pytest.mark.parametrize(
    "url",
    [
        "memcached://",
        "memcached://,",
        "memcached://a,,b",
        "memcached://a:0",
        "memcached://a:70000",
        "memcached://a:x",
        "memcached://user:secret@a",
        "memcached://a/1",
        "memcached://a?x=1",
        "memcached://a b",
        "memcached://a,a:11211",
        ["memcached://a"],
        "a:11211",
    ],
)
def test_unusable_locations(url):
    """What is no server is named, without its password."""
    with pytest.raises(ConfigError) as raised:
        parse_location(url)
    assert "secret" not in str(raised.value)
    assert "LOCATION" in str(raised.value)


def test_unusable_client_arguments():
    """CLIENT_KWARGS are pymemcache's, those that make sense."""
    with pytest.raises(ConfigError, match=r"'serde'.*tls_context"):
        open_memcached(
            "memcached://a", KeptMessages(), client_kwargs={"serde": object()}
        )


# -- what a review found --------------------------------------------------------------


def test_ttls_beyond_2038(store):
    """What is to live longer than 32 bits can say has no expiry."""
    for seconds in (15 * 365 * 86_400, 500 * 365 * 86_400):
        store.store([("k", b"1")], seconds * 1000, None)
        assert store.get("k") == (b"1", -1)
        assert store.touch("k", seconds * 1000, None)
        assert store.get("k") == (b"1", -1)


@pytest.mark.parametrize(
    ("flags", "block"),
    [(8, b"not zlib"), (16, b"\xff\xfe"), (32, b"x"), (128, b"x"), (256, b"x")],
)
def test_items_of_strangers(store, raw, flags, block):
    """What cannot be read is bytes that no serializer reads; nothing is raised."""
    raw.set("k", block, flags=flags)
    found, ttl_ms = store.get("k")
    assert found is not None
    assert ttl_ms == -1
    assert store.exists("k")
    assert store.incr("k", 1, None) == "not an integer"
    assert store.replace("k", found, None, None)
    assert store.get("k") == (None, -2)


@pytest.mark.parametrize("raw_value", [b"18446744073709551615", b"12\0abc"])
def test_what_is_no_number_for_us(store, raw, raw_value):
    """Memcached would count it, and spoil it."""
    store.store([("k", raw_value)], None, None)
    assert store.incr("k", 1, None) == "not an integer"
    assert store.get("k")[0] == raw_value
    if raw_value.isdigit():
        raw.set("k", raw_value, flags=2)
        assert store.incr("k", 2, None) == "not an integer"
        assert store.get("k")[0] == raw_value


def test_an_increment_that_meets_an_add(store, monkeypatch):
    """What was counted is told, though the key was not there a moment before."""
    node = store._cluster.nodes[0]
    store.get("k")
    run = node.carrier.run

    def run_late(request, **kwargs):
        if b"ma k " in request.packed:
            monkeypatch.setattr(node.carrier, "run", run)
            look, count = request.packed.split(b"ma k ")
            before = run(request._replace(packed=look, replies=request.replies - 1))
            assert store.add("k", b"10", None, None)
            return before + run(request._replace(packed=b"ma k " + count, replies=1))
        return run(request, **kwargs)

    monkeypatch.setattr(node.carrier, "run", run_late)
    assert store.incr("k", 1, b"message") == 11
    assert store._outbox.kept[-1] == b"message"


def test_a_load_from_before_a_restart(store, server):
    """CAS numbers begin anew with the server: an old one may be anybody's."""
    look = store.look("k", b"a", TERMS)
    cas = int(look.generation.split()[0])
    server.restart()
    store.get("k")
    for _ in range(cas + 5):
        store.store([("k", b"new")], None, None)
        item = store._run(store._plans._read(store._plans.place("k")))
        if item.cas == cas:
            break
    else:
        pytest.fail("no item has got the number of before")
    reply = store.store_loaded("k", LoadedRaw(b"old", None), look, None)
    assert not reply.stored
    assert store.get("k")[0] != b"old"


def test_a_mark_is_not_touched(store, raw, monkeypatch):
    """One that comes between look and touch does not live on for ever."""
    store.store([("k", b"1")], None, None)
    node = store._cluster.nodes[0]
    run = node.carrier.run

    def run_late(request, **kwargs):
        if b"touch k" in request.packed:
            monkeypatch.setattr(node.carrier, "run", run)
            store.delete(["k"], None)
            look = store.look("k", b"a", TERMS)
            store.store_absent("k", MINUTE_MS, look, None)
        return run(request, **kwargs)

    monkeypatch.setattr(node.carrier, "run", run_late)
    store.touch("k", None, None)
    assert store.look("k", b"b", TERMS).ttl_ms != -1


@pytest.mark.parametrize("key", ["k", "a key with spaces"])
def test_a_new_ttl_of_a_value_that_leaves_a_copy(store, key):
    """It holds, however much longer the copy was to be kept."""
    look = store.look(key, b"a", TERMS)
    loaded = LoadedRaw(b"1", MINUTE_MS, keep_ms=10 * MINUTE_MS)
    assert store.store_loaded(key, loaded, look, None).stored
    assert store.touch(key, 2 * MINUTE_MS, None)
    raw, ttl_ms = store.get(key)
    assert raw == b"1"
    assert MINUTE_MS < ttl_ms <= 2 * MINUTE_MS


def test_digits_without_end(store):
    """They are no number to anybody, and no reason to fail."""
    digits = b"7" * 10_000
    store.store([("k", digits)], None, None)
    assert store.incr("k", 1, None) == "not an integer"
    assert store.incr("k", -1, None) == "not an integer"
    assert store.get("k") == (digits, -1)


def test_stamps_run_out(store, monkeypatch):
    """Then the server is flushed, and the stamps begin anew."""
    store.store([("p:k", b"1"), ("q:k", b"1")], None, None)
    monkeypatch.setattr(clears, "MAX_STAMP", store._cluster.nodes[0].clears.latest + 1)
    store.clear("p:", bytes)
    assert store.get("q:k") == (b"1", -1)
    monkeypatch.setattr(clears, "_now", lambda: 5)
    store.clear("p:", bytes)
    assert store.get_many(["p:k", "q:k"]) == [(None, -2)] * 2
    store.store([("p:k", b"2")], None, None)
    assert store.get("p:k") == (b"2", -1)


def test_a_server_without_cas():
    """It is named as what it is, whatever is asked."""
    with memcached_server(args=("-C",)) as bare:
        store = open_memcached(bare.url, KeptMessages())
        with pytest.raises(L2Error, match="-C"):
            store.get("k")
        store.close()
    with pytest.raises(ConfigError, match="KeepaliveOpts"):
        open_memcached(
            "memcached://a", KeptMessages(), client_kwargs={"socket_keepalive": True}
        )
