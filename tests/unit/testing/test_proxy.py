"""Each fault of the proxy does to a real client and server what it says, and counts."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cachebridge.testing import FaultProxy
from tests.rig import PATIENCE_S, eventually

FAULTS = (
    "cut",
    "delay",
    "half_close",
    "hold_requests",
    "refuse",
    "release_held",
    "silence",
    "truncate",
)


@pytest.fixture
def server(redis_server_factory):
    return redis_server_factory()


@pytest.fixture
def proxy(server):
    with FaultProxy(server.host, server.port) as running:
        yield running


@pytest.fixture
def direct(server):
    """Connect without going by way of the proxy."""
    with redis.Redis.from_url(server.url) as client:
        yield client


@contextmanager
def connected(proxy, timeout_s):
    """Connect through the proxy, with a client that tries everything once."""
    with redis.Redis.from_url(
        proxy.url,
        socket_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
    ) as client:
        client.ping()
        yield client


@pytest.fixture
def client(proxy):
    with connected(proxy, PATIENCE_S) as patient:
        yield patient


@pytest.fixture
def hasty(proxy):
    with connected(proxy, 0.5) as impatient:
        yield impatient


def only(**counts: int) -> dict[str, int]:
    return dict.fromkeys(FAULTS, 0) | counts


def receive_all(connection: socket.socket) -> bytes:
    received = b""
    while piece := connection.recv(65_536):
        received += piece
    return received


def test_passes_everything_through(client, proxy):
    """Without a fault the proxy is invisible, for large values too."""
    value = bytes(range(256)) * 8_000
    client.set("key", value)
    assert client.get("key") == value
    assert proxy.fired == only()
    assert proxy.connections == 1


def test_ends_with_the_client(client, proxy):
    """A client that closes leaves no connection open."""
    client.close()
    eventually(lambda: proxy.connections == 0)


def test_ends_with_the_server(client, proxy, server):
    """The death of the server reaches the client, then new ones see it dead."""
    server.kill()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    eventually(lambda: proxy.connections == 0)
    server.restart()
    assert client.ping()


def test_delay_is_added_both_ways(client, proxy):
    """A round trip under delay takes twice the delay, until restore()."""
    proxy.delay(0.2)
    began = time.monotonic()
    client.ping()
    assert time.monotonic() - began >= 0.4
    assert proxy.fired == only(delay=2)
    proxy.restore()
    client.ping()
    assert proxy.fired == only(delay=2)


def test_delay_does_not_add_up_over_pieces(proxy):
    """Pieces sent one after the other are all late by the delay, and stay in order."""
    with socket.create_connection(
        (proxy.host, proxy.port), timeout=PATIENCE_S
    ) as connection:
        proxy.delay(1.0)
        began = time.monotonic()
        for number in range(40):
            connection.sendall(b"ECHO %02d\r\n" % number)
            eventually(lambda seen=number: proxy.fired["delay"] > seen)
        expected = b"".join(b"$2\r\n%02d\r\n" % number for number in range(40))
        received = b""
        while len(received) < len(expected):
            received += connection.recv(65_536)
        assert received == expected
        assert time.monotonic() - began < 40 * 1.0  # what delays that add up take


def test_a_shorter_delay_keeps_the_order(proxy):
    """What was sent under a long delay is not overtaken by what comes after it."""
    with socket.create_connection(
        (proxy.host, proxy.port), timeout=PATIENCE_S
    ) as connection:
        proxy.delay(0.1)
        connection.sendall(b"ECHO first\r\n")
        eventually(lambda: proxy.fired["delay"] == 1)
        proxy.delay(0.0)
        connection.sendall(b"ECHO second\r\n")
        received = b""
        while b"second" not in received:
            received += connection.recv(65_536)
        assert received == b"$5\r\nfirst\r\n$6\r\nsecond\r\n"


def test_cut_closes_current_connections(client, proxy):
    """Open connections end at once; new ones are served."""
    other = socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE_S)
    eventually(lambda: proxy.connections == 2)
    proxy.cut()
    assert proxy.connections == 0
    assert other.recv(1) == b""
    other.close()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert client.ping()
    assert proxy.fired == only(cut=2)


def test_cut_without_connections_counts_nothing(proxy):
    """A fault that met no traffic has not fired."""
    proxy.cut()
    proxy.half_close()
    proxy.truncate(0)
    proxy.silence()
    assert proxy.fired == only()


def test_silence_keeps_connections_open(hasty, proxy, direct):
    """No client gets an answer or an end; new connections are accepted and mute too."""
    proxy.silence()
    with pytest.raises(redis.TimeoutError):
        hasty.set("key", "value")
    assert direct.get("key") is None
    with socket.create_connection((proxy.host, proxy.port), timeout=0.1) as late:
        late.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            late.recv(1)
        assert proxy.fired == only(silence=2)
        proxy.restore()
        late.settimeout(PATIENCE_S)
        assert late.recv(16) == b"+PONG\r\n"


def test_silence_delays_published_messages_until_restore(proxy, direct):
    """A silenced subscriber gets what was published meanwhile when the silence ends."""
    with socket.create_connection(
        (proxy.host, proxy.port), timeout=PATIENCE_S
    ) as subscriber:
        subscriber.sendall(b"SUBSCRIBE channel\r\n")
        assert subscriber.recv(64).startswith(b"*3\r\n$9\r\nsubscribe")
        proxy.silence()
        assert direct.publish("channel", "message") == 1
        subscriber.settimeout(0.1)
        with pytest.raises(TimeoutError):
            subscriber.recv(1)
        proxy.restore()
        subscriber.settimeout(PATIENCE_S)
        assert b"message" in subscriber.recv(64)
        assert proxy.fired == only(silence=1)


def test_half_close_ends_replies_only(client, proxy, direct):
    """The client reads the end of the stream, the server still gets the request."""
    proxy.half_close()
    with pytest.raises(redis.ConnectionError):
        client.set("key", "value")
    eventually(lambda: direct.get("key") == b"value")
    assert proxy.fired == only(half_close=1)
    assert client.ping()
    eventually(lambda: proxy.connections == 1)


def test_truncate_cuts_inside_of_a_reply(proxy, direct):
    """The client gets exactly so many bytes and then the end."""
    direct.set("key", "0123456789")
    with socket.create_connection(
        (proxy.host, proxy.port), timeout=PATIENCE_S
    ) as connection:
        eventually(lambda: proxy.connections == 1)
        proxy.truncate(9)
        connection.sendall(b"GET key\r\n")
        assert receive_all(connection) == b"$10\r\n0123"
    with socket.create_connection(
        (proxy.host, proxy.port), timeout=PATIENCE_S
    ) as connection:
        connection.sendall(b"GET key\r\n")
        assert connection.recv(64) == b"$10\r\n0123456789\r\n"
    assert proxy.fired == only(truncate=1)


def test_truncate_counts_over_replies(client, proxy):
    """The budget spans replies; a restore() before it is used up lifts it."""
    proxy.truncate(10)
    assert client.ping()
    assert proxy.fired == only()
    proxy.restore()
    assert all(client.ping() for _ in range(3))
    proxy.truncate(10)
    assert client.ping()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert proxy.fired == only(truncate=1)


def test_refuse_turns_new_connections_away(client, proxy):
    """New clients are refused, open connections go on, restore() reopens the port."""
    proxy.refuse()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=1)
    assert client.ping()
    assert proxy.fired == only(refuse=1)
    proxy.restore()
    socket.create_connection((proxy.host, proxy.port), timeout=1).close()


def test_a_timed_out_write_is_carried_out_late(hasty, proxy, direct):
    """A held write reaches the server after the client gave up and wrote again."""
    proxy.hold_requests()
    with pytest.raises(redis.TimeoutError):
        hasty.set("key", "late")
    hasty.connection_pool.connection_kwargs["socket_timeout"] = PATIENCE_S
    hasty.connection.socket_timeout = PATIENCE_S
    assert hasty.set("key", "newer")
    assert direct.get("key") == b"newer"
    assert proxy.release_held() == 1
    assert direct.get("key") == b"late"
    counts = proxy.fired
    assert counts.pop("hold_requests") >= 1
    assert counts.pop("release_held") == 1
    assert not any(counts.values())


def test_held_requests_of_a_waiting_client_are_answered(client, proxy):
    """A client that still waits when its request is released gets the reply."""
    proxy.hold_requests()
    replies: list[object] = []
    waiting = threading.Thread(target=lambda: replies.append(client.ping()))
    waiting.start()
    eventually(lambda: proxy.fired["hold_requests"] == 1)
    assert proxy.release_held() == 1
    waiting.join()
    assert replies == [True]


def test_nothing_held_releases_nothing(client, proxy):
    """Idle connections do not count as released."""
    assert proxy.release_held() == 0
    proxy.hold_requests()
    assert proxy.release_held() == 0
    assert client.ping()
    assert proxy.fired == only()


def test_restore_delivers_what_was_held(hasty, proxy, direct):
    """restore() lets held and delayed bytes go at once."""
    proxy.delay(60)
    proxy.hold_requests()
    with pytest.raises(redis.TimeoutError):
        hasty.set("key", "late")
    proxy.restore()
    eventually(lambda: direct.get("key") == b"late")
    with connected(proxy, PATIENCE_S) as patient:
        assert patient.ping()


def test_stop_frees_the_port(server):
    """After stop() the port is free and no thread is left; using it raises."""
    before = threading.active_count()
    proxy = FaultProxy(server.host, server.port)
    connection = socket.create_connection((proxy.host, proxy.port), timeout=PATIENCE_S)
    proxy.stop()
    proxy.stop()
    assert connection.recv(1) == b""
    connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), timeout=1)
    eventually(lambda: threading.active_count() <= before, "no thread of the proxy")
    with pytest.raises(RuntimeError, match="stopped"):
        proxy.cut()


def test_many_clients_under_changing_faults(proxy, server):
    """Values stay whole for every client that gets an answer while faults come and go.

    An answer that arrives is the one that was asked for, whatever happened before.
    """
    wrong: list[object] = []
    answers = [0] * 8
    done = threading.Event()

    def work(number: int) -> None:
        client = redis.Redis.from_url(
            proxy.url, socket_timeout=0.1, retry=Retry(NoBackoff(), 0)
        )
        value = b"%d" % number * 3_000
        while not done.is_set():
            try:
                client.set(f"key{number}", value)
                if client.get(f"key{number}") != value:
                    wrong.append(number)
                answers[number] += 1
            except redis.RedisError:
                continue
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    faults = (
        lambda: proxy.delay(0.01),
        proxy.cut,
        proxy.silence,
        proxy.half_close,
        lambda: proxy.truncate(500),
        proxy.hold_requests,
        proxy.refuse,
    )

    def all_have_met():
        for fault in faults:
            fault()
            time.sleep(0.12)  # a fault that lasts a moment; each is dealt again
            proxy.restore()
            time.sleep(0.03)
        return all(answers) and all(proxy.fired.values())

    try:
        eventually(all_have_met)
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all(answers)
    assert all(proxy.fired.values()), proxy.fired
