"""L1's bound in bytes is a bound on the real memory of the process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cachebridge.testing import redis_server

MEBIBYTE = 1 << 20
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").is_file(), reason="measures by /proc"
)


@pytest.fixture(scope="module")
def small_server(shared_server):
    """Start a server that keeps little: only this process's memory is of interest."""
    args = ("--maxmemory", "50mb", "--maxmemory-policy", "volatile-lru")
    with redis_server(args=args) as server:
        yield server


def grown(server, *arguments):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.unit.l1.memory_use",
            server.url,
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("keys", "length", "max_bytes"),
    [
        (80_000, 20, 16 * MEBIBYTE),
        (30_000, 500, 16 * MEBIBYTE),
        (2000, 60_000, 16 * MEBIBYTE),
        pytest.param(1_000_000, 200, 32 * MEBIBYTE, marks=pytest.mark.proof),
    ],
)
def test_resident_memory(small_server, keys, length, max_bytes):
    """However many distinct keys, set or asked in vain: the bound and 20 % at most."""
    used = grown(
        small_server,
        keys,
        length,
        "l1_max_entries=10000000",
        f"l1_max_bytes={max_bytes}",
    )
    assert used["evictions"] > 0, "the bound was reached"
    assert 0.8 * max_bytes < used["bytes"] <= max_bytes
    assert used["grown"] <= 1.2 * max_bytes


def test_bound_in_entries(small_server):
    """The other bound holds as well, and its memory is about what is accounted."""
    used = grown(small_server, 16_000, 200, "l1_max_entries=5000")
    assert used["entries"] <= 5000
    assert used["grown"] <= 1.2 * used["bytes"] + 3 * MEBIBYTE
