"""A process that used the cache ends at once, with status 0 and without a word."""

from __future__ import annotations

import time

import pytest

from tests.processes.test_fork import run_script

pytestmark = pytest.mark.slow

LONGEST_S = 2.0

USE = """
    import sys, time
    from cachebridge import Cache, L2Error

    url, pause = sys.argv[1:]
    cache = Cache(url, SOCKET_TIMEOUT=5.0, SOCKET_CONNECT_TIMEOUT=5.0)
    engine = cache._binding.engine
    try:
        cache.set("key", "value")
        while not engine.counters.l1_hits:
            cache.get("key")
            time.sleep(0.01)
    except L2Error:
        engine.listen()
        time.sleep(0.2)
    assert engine.is_listening()
    print("used", flush=True)
    if pause:
        sys.stdin.readline()
    print(time.monotonic(), flush=True)
"""


def ended_s(done):
    """Return how long the process took from its last line to its end."""
    ended = time.monotonic()
    return ended - float(done.stdout.split()[-1])


def run_quietly(*args):
    """Run the script so that every warning and leak shows."""
    done = run_script(USE, *args, options=("-X", "dev", "-W", "error"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" or "no invalidation messages" in done.stderr
    return done


def test_exit_while_listening(redis_url):
    """Nothing waits for the listener, and no connection is left open."""
    done = run_quietly(redis_url, "")
    assert ended_s(done) < LONGEST_S
    assert done.stderr == ""
