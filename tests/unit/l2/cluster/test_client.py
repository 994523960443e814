"""A request whose slot is elsewhere is sent on: MOVED, ASK, TRYAGAIN; in batches."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from cachebridge.errors import L2Error, L2UnavailableError
from cachebridge.l2.cluster.client import MOST_HOPS
from cachebridge.l2.cluster.slots import slot_of
from cachebridge.l2.redis.scripts import STORE
from cachebridge.testing import redis_cluster
from cachebridge.testing.asking import ask
from cachebridge.testing.contracts.message_contract import StoreFace
from tests.clusters import key_at, open_cluster, spying_on
from tests.hostile import serving
from tests.rig import PATIENCE_S, PATIENT, eventually, stores_of
from tests.unit.l2.conftest import CARRY


@pytest.fixture(scope="module")
def cluster(shared_server):
    with redis_cluster() as made:
        yield made


@pytest.fixture
def opened(cluster, side):
    """Return a store of the side, that knows the map, and the cluster behind it."""
    cache, masters = open_cluster(cluster.url, **PATIENT)
    stores = stores_of(cache)
    store = StoreFace(getattr(stores, side), CARRY[side])
    store.ping()
    store.exists("any")  # here the map is asked for
    masters._watch.stop()  # the map stays out of date
    eventually(lambda: not masters._watch.is_alive())
    masters._watch.start = lambda: None
    return store, masters


@pytest.fixture
def store(opened):
    return opened[0]


@pytest.fixture
def moving(cluster):
    """Return a function that moves a key's slot away, and have all back at the end."""
    homes = {}

    def move(key, *, partly=False):
        slot = slot_of(key.encode())
        source = cluster.node_of(slot)
        target = next(each for each in cluster.masters() if each is not source)
        homes.setdefault(slot, source)
        if partly:
            cluster.begin_move(slot, target)
        else:
            cluster.move_slot(slot, target)
        return source, target

    yield move
    for slot, home in homes.items():
        for node in cluster.masters():
            ask(node, "CLUSTER SETSLOT", slot, "STABLE")
        if cluster.node_of(slot) is not home:
            cluster.move_slot(slot, home)


def fresh_key(cluster, name):
    return key_at(cluster.masters()[0], name)


def test_moved(cluster, store, moving):
    """The next request goes there, whatever it is; and so do the later ones."""
    key = fresh_key(cluster, "moved")
    store.store([(key, b"1")], None, None)
    _, target = moving(key)
    assert store.get(key) == (b"1", -1)
    assert store.incr(key, 1, None) == 2
    assert ask(target, "GET", key) == b"2"


def test_a_moved_change_is_carried_out_once(cluster, store, moving):
    """One that must not be repeated, too: the first node has done nothing."""
    key = fresh_key(cluster, "once")
    store.store([(key, b"1")], None, None)
    moving(key)
    assert store.incr(key, 1, None) == 2
    assert store.get(key) == (b"2", -1)


def test_ask(cluster, opened, moving):
    """A key that is there already is read there; the map stays as it is."""
    store, masters = opened
    key = fresh_key(cluster, "asked")
    store.store([(key, b"1")], 60_000, None)
    owner = masters.owner(slot_of(key.encode()))
    _, target = moving(key, partly=True)
    cluster.move_keys(slot_of(key.encode()), target)
    raw, ttl_ms = store.get(key)  # GET and PTTL: each is asked for
    assert raw == b"1"
    assert 0 < ttl_ms <= 60_000
    assert store.exists(key)
    assert store.get_many([key])[0][0] == b"1"
    assert masters.owner(slot_of(key.encode())) is owner


def test_ask_with_a_script_that_the_node_does_not_know(cluster, store, moving):
    """A script goes with its text there."""
    key = fresh_key(cluster, "unknown")
    store.store([(key, b"1")], None, None)
    _, target = moving(key, partly=True)
    cluster.move_keys(slot_of(key.encode()), target)
    ask(target, "SCRIPT FLUSH")
    assert store.get_many([key]) == [(b"1", -1)]


def test_a_change_waits_until_the_slot_is_done(cluster, store, moving):
    """Key and record are not both at one of the nodes before that: TRYAGAIN."""
    key = fresh_key(cluster, "again")
    store.store([(key, b"1")], None, None)
    slot = slot_of(key.encode())
    _, target = moving(key, partly=True)
    cluster.move_keys(slot, target)
    answers = []
    changing = threading.Thread(
        target=lambda: answers.append(store.delete([key], None)), daemon=True
    )
    changing.start()
    changing.join(0.5)  # longer is as good; many times what a node needs
    assert answers == []
    cluster.end_move(slot, target)
    changing.join(PATIENCE_S)
    assert answers == [1]
    assert store.get(key) == (None, -2)


def test_a_batch_of_which_some_slots_have_moved(cluster, store, moving):
    """Each key is set where it belongs now, and each slot's message names its keys."""
    from cachebridge.codec.messages import Message, MessageType, encode_message

    keys = [key_at(node, f"batch{n}") for n, node in enumerate(cluster.masters())]
    keys += [key + "{}" for key in keys]
    moving(keys[0])
    message = Message(MessageType.KEYS, b"another!", 7, 0, tuple(keys))
    with spying_on(cluster) as spy:
        store.store(
            [(key, key.encode()) for key in keys], None, encode_message(message)
        )
        heard = spy.messages()
    assert sorted(key for each in heard for key in each.keys) == sorted(keys)
    for each in heard:
        assert each._replace(keys=()) == message._replace(keys=())
        assert len({slot_of(key.encode()) for key in each.keys}) == 1
    assert [raw for raw, _ in store.get_many(keys)] == [key.encode() for key in keys]
    assert store.delete(keys, None) == len(keys)


def test_many_keys_of_one_slot(store):
    """More than a script takes at once."""
    keys = [f"{{one}}:{number}" for number in range(10_000)]
    for start in range(0, len(keys), 1000):
        store.store([(key, b"1") for key in keys[start : start + 1000]], None, None)
    assert store.get_many(keys) == [(b"1", -1)] * len(keys)
    for start in range(0, len(keys), 1000):
        assert store.delete(keys[start : start + 1000], None) == 1000


def test_scripts_are_loaded_at_each_master(cluster, store):
    """A batch meets masters that do not know its script."""
    keys = [key_at(node, "load") for node in cluster.masters()]
    keys += [f"{key}x" for key in keys]
    for node in cluster.masters():
        ask(node, "SCRIPT FLUSH")
    store.store([(key, b"1") for key in keys], None, None)
    assert store.get_many(keys) == [(b"1", -1)] * len(keys)
    for node in cluster.masters():
        assert ask(node, "SCRIPT EXISTS", STORE.sha.decode(), "0" * 40) == [True, False]
    store.delete(keys, None)


def test_a_master_that_has_not_the_key_that_is_asked_for(cluster, redis_url, side):
    """Without the right to PING each is asked for a key: a redirect is an answer."""
    cache, masters = open_cluster(cluster.url, bus_location=redis_url, **PATIENT)
    cache.set("any", 1)
    for number in range(3):
        master = getattr(masters.all()[number], side)
        master.client._router = None  # it must not need another node
        CARRY[side](master.ping())


# -- nodes that answer anything --------------------------------------------------------


def node_that_answers(answer):
    """Be the one master of a cluster; commands but those for the map get an answer."""
    port = []

    def talk(connection):
        while data := connection.recv(65536):
            if b"CLUSTER" in data:
                info = b"cluster_state:ok\r\ncluster_current_epoch:1\r\n"
                connection.sendall(
                    b"$%d\r\n%b\r\n*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$9\r\n127.0.0.1\r\n"
                    b":%d\r\n$2\r\nid\r\n" % (len(info), info, port[0])
                )
            elif b"SETINFO" in data or b"SELECT" in data:
                count = data.count(b"SETINFO") + data.count(b"SELECT")
                connection.sendall(b"+OK\r\n" * count)
            else:
                asked.append(data)
                connection.sendall(answer.replace(b"PORT", b"%d" % port[0]))

    asked = []
    serve = serving(talk)
    port.append(serve.__enter__())
    return serve, port[0], asked


@pytest.fixture
def node(side):
    """Return a function that opens a store over such a node."""
    running = []

    def make(answer, **options):
        serve, port, asked = node_that_answers(answer)
        running.append(serve)
        cache, _ = open_cluster(f"redis+cluster://127.0.0.1:{port}", **options)
        return StoreFace(getattr(stores_of(cache), side), CARRY[side]), asked

    yield make
    for serve in running:
        serve.__exit__(None, None, None)


def test_too_many_hops(node):
    """Nodes that send each other the request end with an error, and soon."""
    store, asked = node(b"-MOVED 5 127.0.0.1:PORT\r\n")
    with pytest.raises(L2UnavailableError, match="MOVED 5"):
        store.delete(["key"], None)
    assert len(asked) == 1 + MOST_HOPS


def test_a_slot_that_is_never_done(node):
    """The socket's timeout bounds how long it is asked again."""
    store, asked = node(b"-TRYAGAIN Multiple keys\r\n", socket_timeout=0.2)
    with pytest.raises(L2UnavailableError, match="TRYAGAIN"):
        store.delete(["key"], None)
    assert len(asked) > 1


REPLIES = [
    *(b"-TRYAGAIN x\r\n", b"-MOVED x\r\n", b"-MOVED 1 h:99999\r\n", b"+OK\r\n"),
    *(b"-ASK 1 a..b:1\r\n", b"*1\r\n*0\r\n", b":7\r\n", b"$-1\r\n", b"\0\0\0\r\n"),
    *(b"-MOVED 1 127.0.0.1:PORT\r\n", b"-ASK 1 127.0.0.1:PORT\r\n", b"*-1\r\n"),
]
CALLS = {
    "exists": lambda store: store.exists("k"),
    "scan": lambda store: store.scan("*", 0),
    "flush_db": lambda store: store.flush_db(b"m"),
    "publish": lambda store: store.publish(b"m"),
    "ping": lambda store: store.ping(),
    "keep_list": lambda store: store.keep_list("any", b"1", 1000),
    "store": lambda store: store.store([("a", b"1"), ("b", b"1")], None, None),
    "get_many": lambda store: store.get_many(["a", "b"]),
    "delete": lambda store: store.delete(["a", "b"], None),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("reply", REPLIES, ids=repr)
def test_any_reply_is_an_answer_or_the_documented_error(node, call, reply):
    """Also for requests that have no slot, and for each one of a batch."""
    store, _ = node(reply * 4, socket_timeout=0.05, breaker_failures=0)
    with suppress(L2Error):
        CALLS[call](store)


def test_part_of_a_batch_was_carried_out(cluster, opened, free_port):
    """Its failure is none of a call that was not sent: messages and deletes are due."""
    store, masters = opened
    keys = [key_at(node, "part") for node in cluster.masters()[:2]]
    slot = slot_of(keys[1].encode())
    masters.moved(slot, ("127.0.0.1", free_port))
    with pytest.raises(L2UnavailableError) as raised:
        store.store([(key, b"1") for key in keys], None, None)
    assert store.get(keys[0]) == (b"1", -1)
    assert not raised.value.is_unsent
    with pytest.raises(L2UnavailableError) as raised:
        store.store([(keys[1], b"1")], None, None)
    assert raised.value.is_unsent
    store.delete([keys[0]], None)
