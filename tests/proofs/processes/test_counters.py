"""Counters of several processes: nothing is sold twice, nothing is left over."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.children import Child
from tests.proofs.processes.batch_worker import FIRST, LAST
from tests.rig import PATIENCE_S, PATIENT, eventually, lone_cache

pytestmark = pytest.mark.proof

PROCESSES = 4
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}


@pytest.mark.parametrize("store", ["redis", "memcached"])
def test_exactly_all_is_sold(store, redis_url, request):
    """Four processes of sixteen threads sell 10,000 of 10,000, then a new delivery.

    Between the two each process answers by itself that there is nothing left.
    """
    options, location = {**PATIENT, "key_prefix": "sale:"}, redis_url
    if store == "memcached":
        location = request.getfixturevalue("shared_memcached").url
        options["bus_location"] = redis_url
    cache = lone_cache(location, **options)
    stock = cache.counter("stock")
    module = "tests.proofs.processes.sale_worker"
    command = [sys.executable, "-m", module, location, json.dumps(options)]
    children = [Child(command, **PIPES) for _ in range(PROCESSES)]
    try:
        for child in children:
            assert child.line() == "ready\n"
        for delivered in (10_000, 500):
            assert stock.reset(delivered)
            for child in children:
                child.stdin.write("sell\n")
                child.stdin.flush()
            assert sum(int(child.line()) for child in children) == delivered
            assert stock.value() == 0
    finally:
        for child in children:
            child.end()


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_the_end_of_a_process(end, redis_url):
    """At exit all sums are sent; a killed process loses its last batch at most."""
    views = lone_cache(redis_url).batched_counter("views")
    module = "tests.proofs.processes.batch_worker"
    child = Child([sys.executable, "-m", module, redis_url], **PIPES)
    try:
        assert child.line() == "sent\n"
        assert child.line() == "added\n"
        if end == "kill":
            child.kill()
        child.stdin.close()
        child.wait(PATIENCE_S)
    finally:
        child.end()
    if end == "exit":
        assert views.value() == FIRST + LAST
    else:
        eventually(lambda: FIRST <= views.value() <= FIRST + LAST)
