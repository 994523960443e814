"""Tests of applications that stop the clock with freezegun."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap

import pytest

from tests.children import Child

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(
        importlib.util.find_spec("freezegun") is None,
        reason="freezes the time with freezegun, which is not installed",
    ),
]

FROZEN = textwrap.dedent("""
    import json, sys
    from freezegun import configure, freeze_time

    location, is_ignored = sys.argv[1:]
    if is_ignored == "ignored":
        configure(extend_ignore_list=["cachebridge"])
    from tests.rig import PATIENCE_S, engine_of, listening, lone_cache

    told = []
    with freeze_time("2020-01-01") as frozen:
        ours, theirs = lone_cache(location, key_prefix="f:"), lone_cache(location)
        told.append([ours.set("k", 1, 1000), ours.get("k")])
        told.append(ours.get_or_load("loaded", lambda: 2))
        if is_ignored == "ignored":
            listening(ours)
        for seconds in (1, 100):
            frozen.tick(seconds)
            theirs.set("f:k", seconds)
            with ours.bypass_l1():
                told.append(ours.get("k"))
            told.append([ours.add(f"lock{seconds}", 1, 30), ours.get("k")])
        if is_ignored == "ignored":
            assert ours.stats().trusted
    told.append(ours.get("k"))
    print(json.dumps(told))
""")


@pytest.mark.parametrize("is_ignored", ["ignored", "frozen"])
def test_a_stopped_clock(is_ignored, redis_url):
    """Every answer is right; L1 goes on where freezegun leaves cachebridge alone."""
    child = Child(
        [sys.executable, "-c", FROZEN, redis_url, is_ignored], stdout=subprocess.PIPE
    )
    try:
        told = json.loads(child.line())
    finally:
        child.end()
    assert told == [[True, 1], 2, 1, [True, 1], 100, [True, 100], 100]
