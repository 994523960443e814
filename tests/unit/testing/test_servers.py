"""A private server is real, alone, restartable, and gone when its parent is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymemcache
import pytest
import redis

from cachebridge.testing import ServerStartError, memcached_server, redis_server
from cachebridge.testing import processes as processes_module
from cachebridge.testing.ports import free_port
from tests.rig import PATIENCE_S, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from cachebridge.testing.processes import PrivateServer

CLIENT_TIMEOUT_S = 0.3


@dataclass(frozen=True)
class Kind:
    """A kind of private server, and how the tests talk to it."""

    start: Callable[..., PrivateServer]
    connect: Callable[[PrivateServer], Any]
    needs: str
    no_answer: type[Exception]


def connect_redis(server: PrivateServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=CLIENT_TIMEOUT_S)


def connect_memcached(server: PrivateServer) -> pymemcache.Client:
    return pymemcache.Client(
        (server.host, server.port), timeout=CLIENT_TIMEOUT_S, default_noreply=False
    )


KINDS = {
    "redis": Kind(redis_server, connect_redis, "shared_server", redis.TimeoutError),
    "memcached": Kind(
        memcached_server, connect_memcached, "shared_memcached", TimeoutError
    ),
}


@pytest.fixture(params=KINDS)
def kind(request):
    chosen = KINDS[request.param]
    request.getfixturevalue(chosen.needs)
    return chosen


@pytest.fixture
def server(kind):
    with kind.start() as running:
        yield running


@pytest.fixture
def client(kind, server):
    with closing(kind.connect(server)) as connected:
        yield connected


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie not yet reaped counts as gone
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc").is_dir()


def test_stop_ends_process_and_directory(kind):
    """Nothing is left after stop(), which may be called again."""
    server = kind.start()
    pid, directory = server.pid, server.directory
    assert directory.is_dir()
    server.stop()
    server.stop()
    assert not process_exists(pid)
    assert not directory.exists()
    assert not server.is_running
    with pytest.raises(ServerStartError, match="not running"):
        _ = server.pid


def test_restart_is_empty_on_the_same_port(kind, server, client):
    """A restart loses the data and keeps the address."""
    client.set("key", "value")
    port, pid = server.port, server.pid
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    with closing(kind.connect(server)) as fresh:
        assert fresh.get("key") is None


def test_kill_then_restart(server):
    """After SIGKILL the port is dead until restart() brings it back."""
    server.kill()
    assert not server.is_running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=PATIENCE_S)
    server.restart()
    assert server.is_running


def test_restart_under_clients_that_keep_dialling(server):
    """Clients that dial the dead port all the time do not take it away."""
    done = threading.Event()
    refused = []

    def dial():
        address = (server.host, server.port)
        while not done.is_set():
            try:
                socket.create_connection(address, timeout=PATIENCE_S).close()
            except OSError:
                refused.append(1)

    dialler = threading.Thread(target=dial)
    dialler.start()
    try:
        for _ in range(5):
            server.kill()
            before = len(refused)
            eventually(lambda least=before + 20: len(refused) >= least)
            server.restart()
    finally:
        done.set()
        dialler.join()
    assert server.is_running


def test_pause_and_resume(kind, server, client):
    """A paused server keeps connections and answers late; pausing twice is fine."""
    client.set("key", "value")
    server.pause()
    server.pause()
    with pytest.raises(kind.no_answer):
        client.get("key")
    server.resume()
    assert client.get("key") == b"value"


def test_stop_while_paused(kind):
    """A frozen process ends as well."""
    server = kind.start()
    pid = server.pid
    server.pause()
    server.stop()
    assert not process_exists(pid)


def test_a_taken_port_is_an_error_with_the_log(kind):
    """A port the caller insists on is not silently replaced by another."""
    with kind.start() as first:
        with pytest.raises(ServerStartError, match="Address already in use"):
            kind.start(port=first.port)
        with closing(kind.connect(first)) as client:
            assert client.set("key", "value")


def test_a_bind_race_takes_another_port(kind, monkeypatch):
    """Losing the race for a free port is repaired by trying another."""
    with kind.start() as first:
        ports = iter([first.port, first.port, free_port()])
        monkeypatch.setattr(processes_module, "free_port", lambda: next(ports))
        with kind.start() as second:
            assert second.port != first.port
            assert second.is_running


def test_a_bad_argument_is_told(kind):
    """What the server program complains about is in the error."""
    with pytest.raises(ServerStartError, match="no-such-option"):
        kind.start(args=("--no-such-option", "1"))


def test_many_servers_from_many_threads(kind):
    """Starting from several threads at once gives as many distinct servers."""
    started: list[PrivateServer] = []

    def start():
        started.append(kind.start())

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert len({server.port for server in started}) == 6
        assert all(server.is_running for server in started)
    finally:
        for server in started:
            server.stop()


PARENT = """
import os, signal, sys, time
from cachebridge.testing import {function}
server = {function}()
print(server.pid, server.directory, flush=True)
{end}
"""


def run_parent(kind: Kind, end: str) -> tuple[subprocess.Popen[str], int, Path]:
    code = PARENT.format(function=kind.start.__name__, end=end)
    parent = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    pid, directory = parent.stdout.readline().split()
    return parent, int(pid), Path(directory)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param("", id="returns"),
        pytest.param("raise SystemExit(3)", id="exits"),
        pytest.param("os._exit(0)", id="exits-without-atexit"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", id="is-killed"),
        pytest.param(
            "server.pause(); os.kill(os.getpid(), signal.SIGTERM)",
            id="is-terminated-with-server-paused",
        ),
    ],
)
def test_dies_with_its_parent(kind, end):
    """However the parent ends, process and directory go with it."""
    parent, pid, directory = run_parent(kind, end)
    parent.communicate(timeout=10)
    eventually(lambda: not process_exists(pid))
    eventually(lambda: not directory.exists())


def test_a_forked_child_does_not_stop_it(kind):
    """A child that runs its exit handlers leaves the parent's server alone."""
    end = """
child = os.fork()
if child == 0:
    server.stop()
    try:
        server.kill()
    except RuntimeError:
        sys.exit(0)
    sys.exit(1)
assert os.waitpid(child, 0)[1] == 0
print(server.is_running, flush=True)
"""
    parent, pid, _ = run_parent(kind, end)
    assert parent.communicate(timeout=10)[0].split() == ["True"]
    eventually(lambda: not process_exists(pid))


def test_a_crashed_server_is_noticed(server):
    """A process that ended by itself is reaped and reported as not running."""
    os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.is_running)
    server.restart()
    assert server.is_running
