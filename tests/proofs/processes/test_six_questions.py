"""An operator's six questions, asked of gunicorn, uvicorn and Flask on one cache.

``docs/operations.md`` names the command that answers each.
"""

from __future__ import annotations

import json
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from urllib.request import urlopen

import pytest

from cachebridge.commands import main
from cachebridge.testing.ports import free_port
from tests.children import Child
from tests.rig import PATIENCE_S, eventually

pytestmark = pytest.mark.proof
APPS = "tests.proofs.processes.fleet_apps"
LONG = ["--key-prefix", "shop:", "--timeout", "5"]


class Site:
    """One server program with its workers."""

    def __init__(self, role, command, url, **env):
        self.port = free_port()
        place = [each.format(port=self.port) for each in command]
        self._child = Child(
            [sys.executable, "-m", *place],
            env={"CACHE_URL": url, "CACHEBRIDGE_ROLE": role, **env},
        )
        self.pids = set()
        self._is_over = threading.Event()
        self._visitors = [threading.Thread(target=self._visit) for _ in range(2)]

    def ask(self, path="get"):
        with urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=30) as page:
            self.pids.add(int(page.read()))

    def _visit(self):
        while not self._is_over.is_set():
            with suppress(OSError):
                self.ask()
            self._is_over.wait(0.02)  # or this process would starve the sites

    def begin(self):
        for each in self._visitors:
            each.start()

    def end(self):
        self._is_over.set()
        for each in self._visitors:
            each.join()
        self._child.end()


def gunicorn(app, workers):
    bind = ("--bind", "127.0.0.1:{port}")
    return ["gunicorn", "--workers", str(workers), *bind, f"{APPS}:{app}"]


UVICORN = ["uvicorn", "--host", "127.0.0.1", "--port", "{port}", f"{APPS}:asgi"]


@contextmanager
def running(*sites):
    with ExitStack() as stack:
        for each in sites:
            stack.callback(each.end)
            each.begin()
        yield sites


def test_the_six_questions(redis_url, capsys):
    """Each is answered by one command."""

    def said(*arguments):
        status = main([arguments[0], redis_url, *arguments[1:], *LONG])
        told = capsys.readouterr()
        return status, told.out + told.err

    def data(*arguments):
        return json.loads(said(*arguments, "--json")[1].rpartition("}")[0] + "}")

    web = Site("web", gunicorn("wsgi", 2), redis_url)
    api = Site("api", UVICORN, redis_url)
    flask = Site("flask", gunicorn("flask_site()", 2), redis_url)
    with running(web, api, flask):
        # Is L1 on everywhere?
        def all_trusted():
            status, told = said("stats")
            roles = [told.count(f" {role} ") for role in ("web", "api", "flask")]
            return status == 0 and roles == [2, 1, 2]

        eventually(all_trusted, timeout_s=2 * PATIENCE_S)
        # Why is this page old?
        eventually(lambda: said("why", "front")[1].count("in L1 and trusted") == 5)
        # Who deletes this key all the time?
        (pid,) = api.pids

        def blamed():
            api.ask("delete")
            lines = said("tail", "30")[1].splitlines()
            return any(
                f"/{pid} " in each and "changed by" in each and " front" in each
                for each in lines
            )

        eventually(blamed)
        # Which keys are hot?
        eventually(lambda: said("hot", "3")[1].splitlines()[1].startswith("front "))
        # What does the cache save?
        total = said("stats")[1].splitlines()[-1]
        assert total.startswith("5 processes")
        assert "%" in total
        # What changed after the deploy?
        new = Site("new", gunicorn("wsgi", 1), redis_url, CACHE_L1_TTL="30")
        with running(new):
            eventually(lambda: " new " in said("who")[1], timeout_s=2 * PATIENCE_S)
            status, told = said("conf")
            assert status == 1
            assert "L1_TTL" in told
            assert "30.0" in told
        assert data("history")["answers"]
        # And off again, everywhere.
        main(["l1", redis_url, "off", "--yes"])
        eventually(lambda: said("stats")[0] == 1)
        main(["l1", redis_url, "on", "--yes"])
        eventually(all_trusted)
