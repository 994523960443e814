"""What only a private Memcached server has: its program and its settings."""

from __future__ import annotations

import os

import pymemcache
import pytest

from cachebridge.testing import ServerNotFoundError, memcached_server


def settings_of(server):
    client = pymemcache.Client((server.host, server.port), timeout=1)
    try:
        return client.stats("settings")
    finally:
        client.close()


def test_serves_its_url(shared_memcached):
    """The URL leads to the process of the object."""
    server = shared_memcached
    client = pymemcache.Client(server.url.removeprefix("memcached://"), timeout=1)
    assert client.stats()[b"pid"] == server.pid
    client.close()
    assert server.url == f"memcached://127.0.0.1:{server.port}"


def test_listens_on_loopback_over_tcp_alone(shared_memcached):
    """No client reaches it from outside, or over UDP."""
    settings = settings_of(shared_memcached)
    assert settings[b"inter"] == b"127.0.0.1"
    assert settings[b"tcpport"] == shared_memcached.port
    assert settings[b"udpport"] == 0


@pytest.mark.usefixtures("shared_memcached")
def test_arguments_reach_the_server():
    """Further arguments win over ours."""
    with memcached_server(args=("-m", "100", "-t", "2")) as server:
        settings = settings_of(server)
        assert settings[b"maxbytes"] == 100 * 1024 * 1024
        assert settings[b"num_threads"] == 2


@pytest.mark.usefixtures("shared_memcached")
def test_starts_with_a_password(tmp_path):
    """A server that answers only after a password counts as started."""
    passwords = tmp_path / "passwords"
    passwords.write_text("user:secret\n")
    with memcached_server(args=("-Y", os.fspath(passwords))) as server:
        assert server.is_running


def test_no_server_names_the_ways_to_get_one(monkeypatch, tmp_path):
    """Without the program the error says what to install."""
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    with pytest.raises(ServerNotFoundError) as caught:
        memcached_server()
    assert "apt install memcached" in str(caught.value)
    assert "brew install memcached" in str(caught.value)
