"""Replies out of a stream, and servers that speak another protocol."""

from __future__ import annotations

import socket
import threading

import pytest

from cachebridge.errors import ConfigError, L2Error
from cachebridge.l2.memcached.protocol import MemcachedError, Parser
from cachebridge.testing import memcached_server
from tests.unit.l2.conftest import open_memcached
from tests.unit.l2.test_contract import KeptMessages


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
