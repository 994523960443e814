"""Ask the fleet: each process answers for itself, and nothing it hears harms it."""

from __future__ import annotations

import json
import sys

import pytest
import redis

from cachebridge import Cache
from cachebridge.bus.asks import (
    ANSWER,
    ASK,
    MOST_ASK,
    VERSION,
    BadFrameError,
    ask_channel,
    decode_ask,
    encode_ask,
    new_ask,
)
from cachebridge.engine.fleet.answering import BURST
from cachebridge.engine.fleet.asking import ask_fleet
from cachebridge.errors import L2UnavailableError, UnsupportedOperationError
from cachebridge.testing import redis_server
from cachebridge.testing.ports import free_port as find_port
from cachebridge.testing.processes import started
from cachebridge.testing.sentinels import SentinelServer
from cachebridge.testing.servers import find_redis_server
from tests.children import Child
from tests.rig import (
    PATIENCE_S,
    after_heartbeats,
    engine_of,
    eventually,
    listening,
    lone_cache,
    receiver_of,
    rules_of,
)

WORKER = """
import sys, threading
from cachebridge import Cache
cache = Cache(sys.argv[1], KEY_PREFIX="shop:", SOCKET_TIMEOUT=120.0)
cache.set("k", "text")
while not cache.stats().trusted:
    cache.get("k")
cache.get("k")
print("ready", flush=True)
sys.stdin.read()
"""


def ask(cache, verb, **arguments):
    """Ask until every process that was reached has answered."""
    asked = ask_fleet(engine_of(cache), verb, PATIENCE_S, **arguments)
    assert asked.missing == 0
    return asked.answers


@pytest.fixture
def caches(redis_url):
    return [listening(lone_cache(redis_url, KEY_PREFIX="shop:")) for _ in range(3)]


@pytest.fixture
def asker(redis_url):
    """A process that only asks: it listens to nothing."""
    return lone_cache(redis_url, KEY_PREFIX="shop:")


def origins(answers):
    return {each["who"]["origin"] for each in answers}


def test_every_process_answers(redis_url, asker):
    """Real processes: each for itself, with its pid; the asker is none of them."""
    workers = [
        Child(
            [sys.executable, "-c", WORKER, redis_url],
            stdin=-1,
            stdout=-1,
            text=True,
            env={"CACHEBRIDGE_ROLE": f"worker {n}"},
        )
        for n in range(3)
    ]
    try:
        for worker in workers:
            assert worker.line() == "ready\n"
        answers = ask(asker, "stats")
        assert {each["who"]["pid"] for each in answers} == {w.pid for w in workers}
        roles = {each["who"]["role"] for each in answers}
        assert roles == {"worker 0", "worker 1", "worker 2"}
        assert all(each["stats"]["trusted"] for each in answers)
        told = [each["why"]["code"] for each in ask(asker, "why", key="shop:k")]
        assert set(told) <= {"trusted", "message", "never"}
        assert "trusted" in told
    finally:
        for worker in workers:
            worker.end()


@pytest.mark.parametrize("verb", ["who", "stats", "health", "conf"])
def test_verbs(caches, asker, verb):
    """Each answer is plain JSON and says who gives it."""
    answers = ask(asker, verb)
    assert origins(answers) == {rules_of(each).origin.hex() for each in caches}
    assert all(verb in each for each in answers)
    json.dumps(answers, allow_nan=False)


def test_one_that_asks_and_listens(caches):
    """It is part of the fleet, and answers itself."""
    assert len(ask(caches[0], "who")) == 3


def test_an_unknown_verb(caches, asker):
    """The answer names those that there are; nothing else happens."""
    for each in ask(asker, "dance"):
        assert "who, stats, health, conf, why" in each["error"]


def test_no_secrets(redis_server_factory):
    """Passwords of URLs and options appear in no answer."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "shop", "on", ">hunter2hunter2", "~*", "&*", "+@all"
        )
    url = server.url.replace("redis://", "redis://shop:hunter2hunter2@")
    options = {"CLIENT_KWARGS": {"client_name": "hidden-name"}}
    cache = listening(lone_cache(url, **options))
    for verb in ("who", "stats", "health", "conf"):
        text = json.dumps(ask(cache, verb))
        assert "hunter2" not in text
        assert "hidden-name" not in text
    (conf,) = ask(cache, "conf")
    assert conf["conf"]["engine"]["CLIENT_KWARGS"] == ["client_name"]


def test_off(redis_url, asker):
    """With FLEET_ASK = False a process is not even subscribed."""
    cache = listening(lone_cache(redis_url, FLEET_ASK=False))
    with redis.Redis.from_url(redis_url) as client:
        db = client.connection_pool.connection_kwargs["db"]
        channel = ask_channel(f"cachebridge:{db}")
        assert client.pubsub_numsub(channel)[0][1] == 0
    assert ask_fleet(engine_of(asker), "who", 0.1).answers == []
    assert cache.stats().trusted


FORGED = [
    b"",
    b"x",
    b"\xcb" * 100,
    bytes((0xCB, ASK, VERSION)),
    bytes((0xCB, ASK, VERSION + 1)) + b"n" * 16 + b'{"verb": "who"}',
    bytes((0xCB, ASK, VERSION)) + b"n" * 16 + b"[" * 4000,
    bytes((0xCB, ASK, VERSION)) + b"n" * 16 + b'{"verb": 1, "arguments": {}}',
    bytes((0xCB, ASK, VERSION)) + b"n" * 16 + b'{"verb": "why", "arguments": []}',
    bytes((0xCB, ANSWER, VERSION)) + b"n" * 16 + b"{}",
    b"\xcb" * (MOST_ASK + 1),
]


def test_malformed_frames_harm_nobody(redis_url, caches, asker):
    """L1 stays, and stays trusted; sensible questions get answers afterwards."""
    cache = caches[0]
    cache.set("k", "text")
    flushes = cache.stats().flushes
    db = engine_of(cache).location.db
    with redis.Redis.from_url(redis_url) as client:
        for frame in FORGED[:BURST]:
            assert client.publish(ask_channel(f"cachebridge:{db}"), frame) == 3
    after_heartbeats(cache)
    stats = cache.stats()
    assert (stats.flushes, stats.messages_malformed) == (flushes, 0)
    hits = stats.l1_hits
    assert cache.get("k") == "text"
    assert cache.stats().l1_hits == hits + 1


def test_answers_are_bounded_in_number(redis_url):
    """A flood of questions is dropped and counted; the listener goes on."""
    frozen = listening(lone_cache(redis_url))
    engine = engine_of(frozen)
    answering = receiver_of(frozen).on_ask.__self__
    now, real = engine.clock(), engine.clock
    engine.clock = lambda: now
    try:
        for _ in range(BURST):
            answering._is_allowed()
        allowed = [answering._is_allowed() for _ in range(100)]
    finally:
        engine.clock = real
    assert not any(allowed)


@pytest.mark.parametrize("frame", FORGED)
def test_forged_frames(frame):
    """They raise one kind of error, whatever is in them."""
    with pytest.raises(BadFrameError):
        decode_ask(frame)


@pytest.mark.parametrize(
    "number", [b"NaN", b"-Infinity", b"1e999", b"-1e400", b"1" + b"0" * 400]
)
def test_numbers_that_no_counter_has(number):
    """Neither an asker nor its page computes with them."""
    head = bytes((0xCB, ASK, VERSION)) + b"n" * 16
    for each in (number, b"[" + number + b"]"):
        frame = head + b'{"verb": "who", "arguments": {"most": ' + each + b"}}"
        with pytest.raises(BadFrameError, match="no JSON"):
            decode_ask(frame)


def test_an_ask_comes_back():
    """What is encoded is decoded."""
    asked = new_ask("why", {"key": "ä\udc80"})
    assert decode_ask(encode_ask(asked)) == asked


def test_without_messages(shared_memcached):
    """No other process can be asked in memory, or over Memcached without a bus."""
    for url in ("memory://", shared_memcached.url):
        cache = lone_cache(url, bus="none") if "memc" in url else Cache(url)
        with pytest.raises(UnsupportedOperationError, match="BUS_LOCATION"):
            ask_fleet(engine_of(cache), "who")


def test_no_server(free_port):
    """The error says where, and what to look at."""
    cache = lone_cache(f"redis://127.0.0.1:{free_port}/0")
    with pytest.raises(L2UnavailableError, match="nothing listens there"):
        ask_fleet(engine_of(cache), "who")


def test_over_memcached_with_a_bus(shared_memcached, redis_url):
    """The server of BUS_LOCATION carries questions and answers."""
    options = {"BUS_LOCATION": redis_url, "KEY_PREFIX": "asked:"}
    listener = listening(lone_cache(shared_memcached.url, **options))
    asker = lone_cache(shared_memcached.url, **options)
    assert origins(ask(asker, "stats")) == {rules_of(listener).origin.hex()}


def test_over_a_cluster(shared_cluster):
    """Each process answers once, though it hears every master."""
    workers = [listening(lone_cache(shared_cluster.url)) for _ in range(2)]
    answers = ask(lone_cache(shared_cluster.url), "stats")
    assert len(answers) == 2
    assert origins(answers) == {rules_of(each).origin.hex() for each in workers}


def test_over_sentinel(redis_server_factory):
    """Asker and processes find the master that the sentinel names."""
    master = redis_server_factory()
    lines = [
        f"sentinel monitor shop {master.host} {master.port} 1",
        "sentinel down-after-milliseconds shop 600000",
    ]
    sentinel = started(SentinelServer(find_redis_server(), lines, find_port()))
    try:
        url = f"redis+sentinel://127.0.0.1:{sentinel.port}/shop/0"
        workers = [listening(lone_cache(url)) for _ in range(2)]
        answers = ask(lone_cache(url), "stats")
        assert origins(answers) == {rules_of(each).origin.hex() for each in workers}
        at_once = ask(lone_cache(master.url), "who")
        assert origins(at_once) == origins(answers)
    finally:
        sentinel.stop()


def test_processes_at_a_replica():
    """They are heard, by askers that know of the replica and by those that do not."""
    quick = redis_server(args=("--repl-diskless-sync-delay", "0"))
    with quick as primary, redis_server() as replica:
        with redis.Redis.from_url(replica.url) as admin:
            admin.replicaof(primary.host, primary.port)
            eventually(lambda: admin.info("replication")["master_link_status"] == "up")
        urls = [primary.url, replica.url]
        near = {"replicas": "near", "bus_heartbeat": 0.05}
        worker = lone_cache(urls, **near)
        engine_of(worker).listening.start()
        eventually(lambda: worker.stats().trusted)
        own = {rules_of(worker).origin.hex()}
        for asker in (lone_cache(urls, **near), lone_cache(primary.url)):
            asked = eventually(
                lambda asker=asker: ask_fleet(engine_of(asker), "stats", 0.5).answers
            )
            assert origins(asked) == own
