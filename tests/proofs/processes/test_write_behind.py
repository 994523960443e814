"""What a dying process has queued: what a kill loses, and that an end loses nothing."""

from __future__ import annotations

import mmap
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time

import pytest

from cachebridge.core.write import WITH_OWN_TTLS
from tests.children import Child
from tests.rig import PATIENT, eventually, lone_cache

ENOUGH = 3 * WITH_OWN_TTLS
MOST_LOST_S = 5.0
"""Far above WRITE_BEHIND_MS: on a busy machine the thread that sends may be late."""


def write_until_killed(url, seen):
    """Set one key after the other, and a hot one; tell which call has returned."""
    cache = lone_cache(url, **PATIENT, write_behind_ms=20, timeout=None)
    number = 0
    while True:
        number += 1
        cache.set(f"key{number}", number, wait=False)
        cache.set("hot", (number, time.monotonic()), wait=False)
        seen[:8] = struct.pack("q", number)


@pytest.mark.parametrize("further", [0, 1, 777])
def test_a_kill_loses_the_last_values_alone(redis_url, further):
    """At most what was queued and what was under way; nothing that is older."""
    seen = mmap.mmap(-1, 8)

    def told():
        return struct.unpack("q", seen[:8])[0]

    pid = os.fork()
    if pid == 0:
        try:
            write_until_killed(redis_url, seen)
        finally:
            os._exit(99)
    eventually(lambda: told() > ENOUGH + further)
    os.kill(pid, signal.SIGKILL)
    killed_at = time.monotonic()
    os.waitpid(pid, 0)
    returned = told()
    cache = lone_cache(redis_url, **PATIENT)
    names = [f"key{number}" for number in range(1, returned + 1)]
    kept = cache.get_many(names)
    lost = [number for number in range(1, returned + 1) if f"key{number}" not in kept]
    print(f"{returned} returned, {len(lost)} lost")
    assert len(lost) <= 2 * WITH_OWN_TTLS
    # A caller that had to wait was confirmed: between the lost ones some may be there.
    assert not lost or lost[0] > returned - 4 * WITH_OWN_TTLS
    number, at = cache.get("hot")
    assert number > returned - 4 * WITH_OWN_TTLS
    assert killed_at - at < MOST_LOST_S


LAST_WORDS = """
    import sys
    if sys.argv[2] == "gevent":
        from gevent import monkey
        monkey.patch_all()
    from cachebridge import Cache
    from tests.rig import PATIENT

    cache = Cache(sys.argv[1], **PATIENT, write_behind_ms=10_000)
    cache.set("seen", 1, wait=False)
    with cache.bypass_l1():
        assert cache.get("seen") == 1
    cache.set("last", sys.argv[2], wait=False)
    assert cache.stats().writes_waiting == 1
"""


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_the_end_of_a_process_sends_all(redis_url, kind):
    """What was set in the last instant is there, and the process has ended in peace."""
    if kind == "gevent":
        pytest.importorskip("gevent", reason="patches a process with it")
    code = textwrap.dedent(LAST_WORDS)
    child = Child([sys.executable, "-c", code, redis_url, kind])
    try:
        assert child.wait(60) == 0, child.said()
    except subprocess.TimeoutExpired:
        child.end()
        raise
    assert lone_cache(redis_url, **PATIENT).get("last") == kind
