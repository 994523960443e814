"""The cache under eventlet and gevent, patched before or after it was imported."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest

from tests.children import Child

pytestmark = pytest.mark.proof


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("library", ["eventlet", "gevent"])
def test_everything_works_in_greenlets(library, when, redis_url):
    """Hits, misses, loads, locks, messages, and connections that were cut."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"runs a process under {library}, which is not installed")
    worker = [sys.executable, "-m", "tests.proofs.processes.green_worker"]
    child = Child([*worker, library, when, redis_url], stdout=subprocess.PIPE)
    try:
        told = json.loads(child.line())
    finally:
        child.end()
    assert told == {
        "set": True,
        "hit": True,
        "miss": "default",
        "loaded": ["loaded"] * 20,
        "loads": 1,
        "bypass is the greenlet's own": 1,
        "bypassed": 1,
        "lock": True,
        "after the lock": 1,
        "no thread waits for all": True,
        "deleted": None,
        "after a cut": [0, 1, 2],
        "side by side": [True] * 30,
    }
