"""A private cluster serves, moves its slots, is failed over, and leaves nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import redis
from redis.cluster import RedisCluster as Client
from redis.crc import key_slot

from cachebridge.testing import redis_cluster
from tests.rig import eventually
from tests.unit.testing.test_servers import process_exists

pytestmark = pytest.mark.usefixtures("shared_server")

KEYS = [f"key:{n}" for n in range(12)]
IN_SLOT_0 = "fHh"


@pytest.fixture(scope="module")
def cluster(shared_server):
    with redis_cluster(replicas=1, bus_proxies=True) as made:
        yield made
    for node in made.nodes:
        with pytest.raises(RuntimeError, match="stopped"):
            node.bus_proxy.cut()


@pytest.fixture
def client(cluster):
    with Client(host=cluster.nodes[0].host, port=cluster.nodes[0].port) as made:
        yield made


def answer_of(node, *command):
    """Return what a node answers, an error included."""
    with redis.Redis(port=node.port, decode_responses=True) as lone:
        try:
            return lone.execute_command(*command)
        except redis.ResponseError as error:
            return f"{type(error).__name__}: {error}"


def test_serves_all_slots(cluster, client):
    """At once, each master with its replica; every node knows who has which slot."""
    first, replicas = cluster.nodes[:3], cluster.nodes[3:]
    assert cluster.masters() == first
    assert [cluster.replicas_of(each) for each in first] == [[r] for r in replicas]
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in first)
    assert cluster.url == f"redis+cluster://{hosts}"
    for slot in (0, 5460, 5461, 10922, 10923, 16383):
        owners = {node.view().owner_of(slot) for node in cluster.nodes}
        assert owners == {cluster.node_of(slot).id}
    for key in KEYS:
        client.set(key, key)
        assert answer_of(cluster.node_of(key), "GET", key) == key
        assert cluster.node_of(key.encode()) is cluster.node_of(key)


def test_a_slot_moves_step_by_step(cluster):
    """In the middle both masters have keys, and each answers as the protocol says."""
    slot = key_slot(b"moved")
    source = cluster.node_of(slot)
    target = next(each for each in cluster.masters() if each is not source)
    keys = [f"{{moved}}:{n}" for n in range(120)]
    for key in keys:
        answer_of(source, "SET", key, key)

    cluster.begin_move(slot, target)
    assert cluster.move_keys(slot, target, count=70) == 70
    assert cluster.node_of(slot) is source
    there = f"{slot} 127.0.0.1:{target.port}"
    asked = [key for key in keys if there in answer_of(source, "GET", key)]
    assert len(asked) == 70
    assert answer_of(source, "GET", asked[0]) == f"AskError: {there}"
    assert "MovedError" in answer_of(target, "GET", asked[0])
    with pytest.raises(ValueError, match="50 keys left"):
        cluster.end_move(slot, target)

    cluster.move_slot(slot, target)  # from here it finishes what was begun
    assert [answer_of(target, "GET", key) for key in keys] == keys
    assert {node.view().owner_of(slot) for node in cluster.nodes} == {target.id}
    assert "MovedError" in answer_of(source, "GET", keys[0])


def test_a_planned_failover(cluster):
    """The replica takes over with all keys, and the old master is its replica."""
    old = cluster.node_of("key")
    (replica,) = cluster.replicas_of(old)
    answer_of(old, "SET", "key", "value")
    assert cluster.fail_over(old) is replica
    assert answer_of(replica, "GET", "key") == "value"
    for node in cluster.nodes:
        assert node.view().owner_of(key_slot(b"key")) == replica.id
    assert cluster.replicas_of(replica) == [old]
    assert answer_of(replica, "SET", "key", "next") is True


def test_the_bus_of_a_master_is_cut(cluster):
    """Its replica is promoted, while clients reach it; it is told when that ends."""
    old = cluster.node_of(0)
    (replica,) = cluster.replicas_of(old)
    cluster.cut_bus(old)
    assert cluster.await_failover(old) is replica
    assert cluster.node_of(0) is replica
    assert old.view().owner_of(0) == old.id
    eventually(lambda: "ClusterDown" in str(answer_of(old, "GET", IN_SLOT_0)))
    cluster.restore_bus()
    cluster.wait_until_ready()
    assert old.view().owner_of(0) == replica.id


def test_a_master_is_killed(cluster):
    """Its replica is promoted; when it is restarted, it is the replica.

    A replica that is killed is no replica until it is restarted.
    """
    old, other = (cluster.node_of(slot) for slot in (0, 8192))
    (replica,) = cluster.replicas_of(old)
    (its_own,) = cluster.replicas_of(other)
    with pytest.raises(ValueError, match="had no slots"):
        cluster.await_failover(its_own)
    cluster.kill(old)
    cluster.kill(its_own)
    assert not old.is_running
    assert cluster.await_failover(old) is replica
    assert old not in cluster.masters()
    eventually(lambda: not cluster.replicas_of(other))
    with pytest.raises(ValueError, match="has no replica"):
        cluster.fail_over(other)
    old.restart()
    its_own.restart()
    cluster.wait_until_ready()
    eventually(lambda: cluster.replicas_of(replica) == [old])
    eventually(lambda: cluster.replicas_of(other) == [its_own])


def test_a_master_is_added(cluster):
    """It has no slots until they move there."""
    added = cluster.add_master()
    assert added in cluster.masters()
    assert cluster.nodes[-1] is added
    for node in cluster.nodes:
        assert added.id in node.view().masters()
        assert added.id not in node.view().slots()
    cluster.move_slot(7, to=added)
    assert cluster.node_of(7) is added


def test_without_full_coverage_and_stop():
    """What has a master is served without the others; stop() leaves nothing."""
    with redis_cluster(require_full_coverage=False) as cluster:
        dead, *others = cluster.nodes
        pids = [node.pid for node in cluster.nodes]
        with pytest.raises(ValueError, match="without bus_proxies"):
            cluster.cut_bus(dead)
        cluster.kill(dead)
        for node in others:
            eventually(lambda node=node: dead.id not in node.view().masters())
        assert cluster.masters() == others
        assert cluster.node_of(0) is dead
        own = next(key for key in KEYS if cluster.node_of(key) is others[0])
        assert answer_of(others[0], "SET", own, "value") is True
    cluster.stop()
    for node in cluster.nodes:
        assert not node.directory.exists()
    assert not any(process_exists(pid) for pid in pids)
    with pytest.raises(RuntimeError, match="no node answers"):
        cluster.masters()


PARENT = """
import os, signal
from cachebridge.testing import redis_cluster
cluster = redis_cluster(masters=1, replicas=1)
print(*[f"{node.pid}:{node.directory}" for node in cluster.nodes], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_dies_with_its_parent():
    """However that ends: no process and no directory is left."""
    command = [sys.executable, "-c", PARENT]
    parent = subprocess.run(command, check=False, capture_output=True, text=True)
    nodes = re.findall(r"(\d+):(\S+)", parent.stdout)
    assert len(nodes) == 2
    for pid, directory in nodes:
        eventually(lambda pid=pid: not process_exists(int(pid)))
        eventually(lambda directory=directory: not Path(directory).exists())


def test_a_failed_start_leaves_nothing(monkeypatch, tmp_path):
    """Also if the servers run, and the cluster cannot be made of them."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(redis.ResponseError, match="cluster support disabled"):
        redis_cluster(args=("--cluster-enabled", "no"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("counts", [{"masters": 0}, {"replicas": -1}])
def test_counts_that_are_no_cluster(counts):
    """They are refused before anything starts."""
    with pytest.raises(ValueError, match="masters is at least 1"):
        redis_cluster(**counts)
