"""After a fork the child begins anew, and the parent goes on as if nothing was."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import textwrap
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.children import ROOT, Child
from tests.rig import PATIENCE_S, eventually

DEADLINE_S = 2 * PATIENCE_S


def wait_for(what):
    """Return what the function returns once that is true; a site may not be there."""

    def found():
        with suppress(OSError):
            return what()
        return None

    return eventually(found)


def environment(**more):
    """The environment of a child that finds the package and the tests."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


# -- gunicorn --preload --------------------------------------------------------------


class Site:
    """A preloaded application under gunicorn with two workers."""

    def __init__(self, port, state_file):
        self._port = port
        self._state_file = state_file

    def ask(self, path):
        url = f"http://127.0.0.1:{self._port}{path}"
        with urllib.request.urlopen(url, timeout=DEADLINE_S) as response:
            return json.loads(response.read())

    def ask_each(self, path, count=2):
        """Ask until ``count`` workers have answered."""
        answers = {}
        deadline = time.monotonic() + DEADLINE_S
        while len(answers) < count:
            assert time.monotonic() < deadline, f"only {set(answers)} answer"
            answer = self.ask(path)
            answers[answer["now"]["pid"]] = answer
        return answers

    def master(self):
        return json.loads(self._state_file.read_text())


@contextmanager
def gunicorn(redis_url, port, tmp_path, *options):
    """Run the application; the workers are forked after it has used its cache."""
    state_file = tmp_path / "master.json"
    master = Child(
        [
            *(sys.executable, "-m", "gunicorn", "--preload", "--workers", "2"),
            *("--bind", f"127.0.0.1:{port}", "--log-level", "warning"),
            *("--worker-tmp-dir", str(tmp_path), *options),
            "tests.proofs.processes.preloaded_app:application",
        ],
        env={"CACHE_URL": redis_url, "MASTER_STATE": str(state_file)},
    )
    try:
        site = Site(port, state_file)
        wait_for(lambda: site.ask("/state"))
        yield site
    finally:
        master.end()


@pytest.fixture
def site(redis_url, free_port, tmp_path):
    with gunicorn(redis_url, free_port, tmp_path) as running:
        yield running


def test_preloaded_workers_begin_anew(site):
    """Each worker has an origin of its own, an empty L1 and no listener at first."""
    answers = site.ask_each("/state")
    master = next(iter(answers.values()))["master"]
    assert master["entries"] == 1
    assert master["listening"]
    origins = {answer["first"]["origin"] for answer in answers.values()}
    assert len(origins | {master["origin"]}) == 3
    for answer in answers.values():
        assert answer["first"]["entries"] == 0
        assert not answer["first"]["listening"]
        assert not answer["first"]["trusted"]
        assert answer["first"]["l1_hits"] == 0


def test_preloaded_workers_hear_each_other(site):
    """Each worker starts its own listener, and sees at once what the other writes."""

    def all_hit_l1():
        answers = site.ask_each("/get")
        return all(
            a["now"]["l1_hits"] and a["now"]["trusted"] for a in answers.values()
        )

    wait_for(all_hit_l1)
    for number in range(20):
        site.ask(f"/set?value={number}")
        wait_for(lambda: values(site) == {str(number)})  # noqa: B023 waited for at once


def values(site):
    """Return what the workers have."""
    return {answer["value"] for answer in site.ask_each("/get").values()}


def test_the_master_goes_on_listening(site):
    """The fork leaves the master's origin, trust and coherence as they were."""
    before = next(iter(site.ask_each("/state").values()))["master"]
    for number in range(5):
        site.ask(f"/set?value={number}")
        wait_for(lambda: site.master()["value"] == str(number))  # noqa: B023
    after = wait_for(lambda: (state := site.master())["trusted"] and state)
    assert after["pid"] == before["pid"]
    assert after["origin"] == before["origin"]
    hits = after["l1_hits"]
    wait_for(lambda: site.master()["l1_hits"] > hits)


def test_a_new_worker_after_a_death(site):
    """A killed worker's successor is a child of the same master, and as new."""
    answers = site.ask_each("/get")
    victim = next(iter(answers))
    os.kill(victim, 9)
    known = {answer["first"]["origin"] for answer in answers.values()}

    def successor():
        answer = site.ask("/get")
        return answer if answer["first"]["origin"] not in known else None

    answer = wait_for(successor)
    assert answer["first"]["entries"] == 0
    assert answer["now"]["pid"] != victim


def test_preloaded_workers_under_gevent(redis_url, free_port, tmp_path):
    """The workers are patched after the fork, when the cache is there already."""
    if importlib.util.find_spec("gevent") is None:
        pytest.skip("runs workers under gevent, which is not installed")
    with (
        gunicorn(redis_url, free_port, tmp_path, "-k", "gevent") as site,
        ThreadPoolExecutor(16) as clients,
    ):

        def all_hit_l1():
            list(clients.map(site.ask, ["/get"] * 32))
            answers = site.ask_each("/get").values()
            return all(each["now"]["l1_hits"] for each in answers) and answers

        for answer in wait_for(all_hit_l1):
            assert answer["now"]["locks"].startswith("gevent")


# -- os.fork -------------------------------------------------------------------------

FORK_UNDER_LOAD = """
    import os, sys, threading, time, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
    from cachebridge import Cache
    from tests.rig import PATIENT, engine_of

    cache = Cache(sys.argv[1], **PATIENT)
    engine = engine_of(cache)
    over = threading.Event()

    def work(number):
        while not over.is_set():
            cache.set(f"key{number}", number)
            cache.get(f"key{number}")
            cache.get_or_load("shared", lambda: "loaded")

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    while not engine.rules.is_on(time.monotonic()):
        time.sleep(0.01)
    origin, problems = engine.rules.origin, []

    def child():
        assert engine.rules.origin != origin, "the parent's origin"
        assert engine.rules.is_idle() and engine.single_flight.is_idle(), "open calls"
        assert not len(engine.l1) and engine.l1.bytes == 0, "the parent's entries"
        assert not engine.listening.is_running(), "the parent's listener"
        cache.set("child", os.getpid())
        deadline = time.monotonic() + 60
        while not engine.counters.l1_hits:
            assert time.monotonic() < deadline, "no L1 hit"
            assert cache.get("child") == os.getpid(), "another's value"
            time.sleep(0.005)

    for attempt in range(12):
        locks = engine.rules.lock, engine.single_flight._lock, engine.listening.lock
        if attempt % 2:
            for lock in locks:
                lock.acquire()
        pid = os.fork()
        if not pid:
            try:
                child()
            except BaseException as exc:
                print(f"child {attempt}: {exc!r}", file=sys.stderr)
                os._exit(1)
            os._exit(0)
        if attempt % 2:
            for lock in locks:
                lock.release()
        deadline = time.monotonic() + 90
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > deadline:
                print(f"child {attempt} hangs", file=sys.stderr)
                os.kill(pid, 9)
                status = os.waitpid(pid, 0)[1]
                break
            time.sleep(0.005)
        if status:
            problems.append(attempt)
    assert engine.rules.origin == origin
    assert engine.listening.is_running()
    over.set()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()
    hits = engine.counters.l1_hits
    deadline = time.monotonic() + 60
    while engine.counters.l1_hits <= hits:
        assert time.monotonic() < deadline, "no L1 hit afterwards"
        cache.get("shared")
        time.sleep(0.01)
    sys.exit(bool(problems))
"""


def run_script(script, *args, options=(), timeout_s=300.0):
    """Run some Python in a process of its own."""
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(script), *args],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_fork_beside_busy_threads(redis_url):
    """A child works although threads it lacks held every lock; so does the parent."""
    done = run_script(FORK_UNDER_LOAD, redis_url)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


INHERITED = """
    import os, sys, time
    from cachebridge import Cache
    from tests.rig import PATIENT, engine_of

    def sockets():
        names = []
        for fd in os.listdir("/proc/self/fd"):
            try:
                names.append(os.readlink(f"/proc/self/fd/{fd}"))
            except OSError:
                continue
        return {name for name in names if name.startswith("socket:")}

    cache = Cache(sys.argv[1], **PATIENT)
    engine = engine_of(cache)
    while not engine.counters.l1_hits:
        cache.get_or_load("key", lambda: "value")
        time.sleep(0.01)
    inherited = sockets()
    pid = os.fork()
    if not pid:
        cache.get("key")
        os._exit(len(sockets() & inherited))
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")
def test_a_child_keeps_none_of_the_parents_connections(redis_url):
    """Or a dead parent's subscription would live on, and no listener would read it."""
    done = run_script(INHERITED, redis_url)
    assert done.returncode == 0, f"{done.returncode} sockets left {done.stderr}"
