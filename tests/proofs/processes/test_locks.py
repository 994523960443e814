"""Who has a lock made of ``add`` loses no update of the owners before (I23)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.children import Child
from tests.proofs.processes.lock_worker import ADDITIONS
from tests.rig import PATIENT, PATIENT_SETTINGS, lone_cache

pytestmark = pytest.mark.proof

PROCESSES = 4
ROUNDS = 2


def run_workers(kind, location, options):
    """Let every process add to one list after the other; yield the names."""
    worker = [sys.executable, "-m", "tests.proofs.processes.lock_worker"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [*worker, kind, location, json.dumps(options)]
    children = [Child(command, **pipes) for _ in range(PROCESSES)]
    try:
        for child in children:
            assert child.line() == "ready\n"
        for name in map("items{}".format, range(ROUNDS)):
            for child in children:
                child.stdin.write(f"{name}\n")
                child.stdin.flush()
            for child in children:
                assert child.line() == "done\n"
            yield name
    finally:
        for child in children:
            child.end()


@pytest.mark.parametrize("kind", ["plain", "excluded", "nested", "tasks"])
@pytest.mark.parametrize("store", ["redis", "memcached"])
def test_no_update_is_lost(kind, store, redis_url, request):
    """Four processes add to one list; each sees what the owner before has written."""
    options, location = {**PATIENT, "key_prefix": f"{kind}:"}, redis_url
    if store == "memcached":
        location = request.getfixturevalue("shared_memcached").url
        options["bus_location"] = redis_url
    if kind == "excluded":
        options["l1_exclude"] = ["lock"]
    cache = lone_cache(location, **options)
    per_turn = 2 if kind == "nested" else 1
    worker = "plain" if kind == "excluded" else kind
    for name in run_workers(worker, location, options):
        assert len(cache.get(name)) == PROCESSES * ADDITIONS * per_turn


@pytest.mark.parametrize(
    ("adapter", "prefix"), [("django", ":1:"), ("flask", "flask_cache_")]
)
def test_no_update_is_lost_through_an_adapter(adapter, prefix, redis_url):
    """The same through the backends of the frameworks."""
    cache = lone_cache(redis_url, key_prefix=prefix)
    for name in run_workers(adapter, redis_url, PATIENT_SETTINGS):
        assert len(cache.get(name)) == PROCESSES * ADDITIONS
