"""Connections to Memcached."""

from __future__ import annotations

import gc
import os
import subprocess
import threading

import pytest

from cachebridge.config import EngineOptions
from cachebridge.errors import ConfigError, L2UnavailableError
from cachebridge.l2.location import parse_location
from cachebridge.l2.memcached.link import open_link
from cachebridge.testing.servers import find_memcached
from tests.rig import eventually
from tests.unit.l2.conftest import open_memcached
from tests.unit.l2.test_contract import KeptMessages


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
    """A reply that came too late answers no later request."""
    impatient = open_memcached(server.url, KeptMessages(), socket_timeout=0.6)
    impatient.store([("a", b"1"), ("b", b"2")], None, None)
    server.pause()
    with pytest.raises(L2UnavailableError):
        impatient.get("a")
    server.resume()
    assert eventually(lambda: answer_of(impatient, "b")) == (b"2", -1)


def answer_of(store, key):
    """Return what the store has, None while it does not answer in time."""
    try:
        return store.get(key)
    except L2UnavailableError:
        return None


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


def test_unusable_client_arguments():
    """CLIENT_KWARGS are pymemcache's, those that make sense."""
    with pytest.raises(ConfigError, match=r"'serde'.*tls_context"):
        open_memcached(
            "memcached://a", KeptMessages(), client_kwargs={"serde": object()}
        )


def test_a_connection_is_closed_with_its_last_reference(shared_memcached):
    """One that is given back to an engine that has stopped is not kept open."""
    (address,) = parse_location(shared_memcached.url).servers
    link = open_link(address, EngineOptions())
    sock = link.socket
    assert sock.fileno() >= 0
    del link
    gc.collect()
    assert sock.fileno() == -1
