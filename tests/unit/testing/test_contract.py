"""``python -m cachebridge.testing.contract``: its row, its words, its exit status."""

from __future__ import annotations

import subprocess
import sys

import pytest
import redis

from cachebridge.testing import (
    ServerNotFoundError,
    memcached_server,
    redis_cluster,
    redis_server,
)
from cachebridge.testing.contract import FEATURES, SIZE, feature_of
from cachebridge.testing.processes import started
from cachebridge.testing.servers import RedisServer, find_valkey_server

CODE = "import sys; sys.modules['pytest'] = None; import runpy; "
"""Python that finds no pytest."""


def ask(*arguments, code=""):
    """Run the command in a project of another's; return what it says."""
    how = ("-c", code) if code else ("-m", "cachebridge.testing.contract")
    return subprocess.run(
        [sys.executable, *how, *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def cells_of(done):
    """Return what each column says, by its title."""
    head, _, row = done.stdout.splitlines()
    columns, cells = (
        [cell.strip() for cell in line.split("|")[1:-1]] for line in (head, row)
    )
    return dict(zip(columns, cells, strict=True))


@pytest.fixture(scope="module")
def server():
    with redis_server() as made, redis.Redis(port=made.port) as client:
        client.set("somebody's", 1)
        yield made


@pytest.fixture
def client(server):
    with redis.Redis(port=server.port) as client:
        yield client


def ask_without(server, client, *rights):
    """Run the command for an account that lacks these rights."""
    everything = ("reset", "on", ">secret", "~*", "&*", "+@all")
    client.execute_command("ACL", "SETUSER", "someone", *everything, *rights)
    return ask(f"redis://someone:secret@{server.host}:{server.port}/0")


def test_a_plain_server(server, client):
    """Everything is there, and nothing is left of the run, nor lost by it."""
    done = ask(server.url)
    assert done.returncode == 0, done.stderr
    cells = cells_of(done)
    assert cells.pop("server").startswith("redis ")
    assert set(cells) == {*FEATURES}
    assert [cell for cell in cells.values() if not cell.startswith("yes")] == []
    assert client.keys() == [b"somebody's"]


def test_an_account_without_scripts(server, client):
    """The row says what is missing, the reason stands beside it, with no password."""
    done = ask_without(server, client, "-eval", "-evalsha")
    assert done.returncode == 1
    cells = cells_of(done)
    assert cells["reads, writes, TTLs"] == cells["counters"] == "no"
    assert cells["coherent L1"] == "no: 1 of 2 tests fail"  # heartbeats are no scripts
    assert "+evalsha" in done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert client.keys() == [b"somebody's"]


@pytest.mark.proof
def test_an_account_without_messages(server, client):
    """Reads work, and what needs messages is not tested for want of them."""
    done = ask_without(server, client, "-publish", "-subscribe")
    assert done.returncode == 1
    cells = cells_of(done)
    assert cells["reads, writes, TTLs"].startswith("yes")
    assert cells["coherent L1"] == "no"
    assert "no messages arrive" in cells["leases, copies, marks of absence"]
    assert client.keys() == [b"somebody's"]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "rabbit://h", ""])
def test_no_server(url):
    """Then nothing is tested: another exit status, and the reason."""
    done = ask(url, "--timeout", "30")
    assert (done.returncode, done.stdout) == (2, "")
    assert "127.0.0.1:1" in done.stderr or "LOCATION" in done.stderr


def test_no_pytest():
    """The command says what to install."""
    run = "runpy.run_module('cachebridge.testing.contract', run_name='__main__')"
    done = ask("memory://", code=CODE + run)
    assert done.returncode == 2
    assert "pip install pytest" in done.stderr


def test_columns():
    """A test belongs to the first column that knows it."""
    assert feature_of("L2LoadContract.test_a_delete_voids") == next(
        each for each in FEATURES if each.startswith("leases")
    )
    assert feature_of("L2CountContract.test_no_unit_is_taken_twice") == "atomic steps"
    assert feature_of("L2StoreContract.test_absent") == "reads, writes, TTLs"


@pytest.mark.proof
def test_memcached(server, client):
    """Alone it has no messages, and by default no room for a mebibyte: it will do."""
    with memcached_server() as memcached:
        alone = ask(memcached.url)
        beside = ask(memcached.url, "--bus", server.url)
    assert (alone.returncode, beside.returncode) == (0, 0), alone.stderr + beside.stderr
    assert cells_of(alone)["coherent L1"] == "not tested: no messages without --bus"
    cells = cells_of(beside)
    assert cells.pop(SIZE) == "no"
    assert all(cell.startswith("yes") for cell in list(cells.values())[1:])
    assert client.keys() == [b"somebody's"]


@pytest.mark.proof
def test_cluster():
    """A batch over slots has a message for each: they count as one."""
    with redis_cluster() as cluster:
        node = cluster.masters()[0]
        done = ask(f"redis+cluster://{node.host}:{node.port}")
        assert done.returncode == 0, done.stderr
        for each in cluster.masters():
            with redis.Redis(port=each.port) as client:
                assert client.keys() == []


@pytest.mark.proof
def test_valkey():
    """A server of Valkey calls itself so; with leave to, everything is flushed."""
    try:
        path = find_valkey_server()
    except ServerNotFoundError as missing:
        pytest.skip(f"runs the command on a server of Valkey: {missing}")
    with started(RedisServer(path, None, ())) as server:
        done = ask(f"valkey://{server.host}:{server.port}/0", "--flush")
        assert done.returncode == 0, done.stderr
        cells = cells_of(done)
        assert cells.pop("server").startswith("valkey ")
        assert {*cells.values()} == {"yes"}
