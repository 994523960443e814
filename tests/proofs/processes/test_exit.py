"""A process that used the cache ends at once, with status 0 and without a word."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from tests.children import ROOT
from tests.proofs.processes.test_fork import environment
from tests.rig import PATIENCE_S

USE = """
    import logging, sys, threading, time
    from cachebridge import Cache, L2Error
    from tests.rig import PATIENT, engine_of

    logging.disable()  # that the server is away is said elsewhere
    cache = Cache(sys.argv[1], **PATIENT)
    engine = engine_of(cache)
    if sys.argv[2] == "used":
        cache.set("key", "value")
        while not engine.counters.l1_hits:
            cache.get("key")
            time.sleep(0.01)
    else:
        engine.listening.start()
    assert engine.listening.is_running()
    print("ready", flush=True)
    sys.stdin.readline()
    if sys.argv[3] == "busy":
        threading.Thread(target=cache.delete, args=("key",), daemon=True).start()
    time.sleep(0.1)  # the thread is in its call by then
"""


class User:
    """A process that uses the cache until it is told to end."""

    def __init__(self, url, *words):
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-X", "dev", "-W", "error"),
                *("-c", textwrap.dedent(USE), url, *words),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment(),
            text=True,
        )
        if self._process.stdout.readline() != "ready\n":
            said = self._process.communicate()
            raise AssertionError(f"not ready: {said}")

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self._process.kill()
        self._process.communicate()

    def must_end_well(self):
        """End before any socket's time is over, with status 0, and print nothing."""
        _, errors = self._process.communicate("\n", timeout=PATIENCE_S)
        assert errors == ""
        assert self._process.returncode == 0


def test_exit_while_listening(redis_url):
    """Nothing waits for the listener, and no connection is left open."""
    with User(redis_url, "used", "idle") as user:
        user.must_end_well()


def test_exit_after_the_server_died(redis_server_factory):
    """The listener is between two attempts to connect."""
    server = redis_server_factory()
    with User(server.url, "used", "idle") as user:
        server.kill()
        user.must_end_well()


@pytest.mark.parametrize("load", ["idle", "busy"])
def test_exit_while_the_server_is_mute(redis_server_factory, load):
    """The listener, or a thread in a call too, waits for an answer that never comes."""
    server = redis_server_factory()
    with User(server.url, "used", load) as user:
        server.pause()
        user.must_end_well()
        server.resume()


def test_exit_without_a_server(free_port):
    """The listener has never connected."""
    with User(f"redis://127.0.0.1:{free_port}/0", "unused", "idle") as user:
        user.must_end_well()


def test_exit_without_any_use():
    """Making a cache starts nothing that could keep a process."""
    script = "from cachebridge import Cache; Cache('redis://127.0.0.1:1/0')"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
