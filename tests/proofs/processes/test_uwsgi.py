"""uWSGI forks in C, without Python's fork hooks, and may give threads no time."""

from __future__ import annotations

import json
import os
import signal
import sys
import urllib.request
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.children import Child
from tests.rig import PATIENCE_S, eventually

UWSGI = Path(sys.executable).parent / "uwsgi"
WORKERS = 3

pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif(
        not UWSGI.exists(), reason="runs under pyuwsgi, which is not installed"
    ),
]


class Site:
    """The application under uWSGI."""

    def __init__(self, port, server):
        self._port = port
        self.server = server

    def ask(self, path="/"):
        url = f"http://127.0.0.1:{self._port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return json.loads(response.read())

    def is_up(self):
        with suppress(OSError):
            return self.ask()
        assert self.server.poll() is None, self.server.said()
        return None

    def ask_each(self, path="/", count=WORKERS):
        """Ask until ``count`` workers have answered; return the answers by pid."""
        answers = {}

        def all_answer():
            answer = self.ask(path)
            answers[answer["now"]["pid"]] = answer
            return len(answers) >= count

        eventually(all_answer)
        return answers


@contextmanager
def uwsgi(url, port, *options, **settings):
    home = ["--home", sys.prefix] if sys.prefix != sys.base_prefix else []
    server = Child(
        [
            *(str(UWSGI), "--http-socket", f"127.0.0.1:{port}", "--need-app"),
            *("--module", "tests.proofs.processes.uwsgi_app", "--die-on-term"),
            *("--worker-reload-mercy", "5", *home, *options),
        ],
        env={"CACHE_URL": url},
        start_new_session=True,
        **settings,
    )
    try:
        site = Site(port, server)
        eventually(site.is_up)
        yield site
    finally:
        server.end()
        with suppress(ProcessLookupError):  # without a master the others go on
            os.killpg(server.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--master", "--enable-threads"), id="preloaded"),
        pytest.param(("--master", "--threads", "2"), id="with threads"),
        pytest.param(("--master", "--enable-threads", "--lazy-apps"), id="lazy"),
        pytest.param(("--master", "--py-call-uwsgi-fork-hooks"), id="all hooks"),
        pytest.param(("--enable-threads",), id="without a master"),
    ],
)
def test_workers_begin_anew(options, redis_url, free_port):
    """Each has an origin and connections of its own, listens, and hears the others."""
    with uwsgi(redis_url, free_port, "--processes", str(WORKERS), *options) as site:
        answers = site.ask_each()
        loaded = [answer["loaded"] for answer in answers.values()]
        if "--lazy-apps" not in options:
            assert all(each["threads"] == ["MainThread"] for each in loaded)

        def all_hit():
            each = site.ask_each().values()
            return all(answer["now"]["l1_hits"] for answer in each) and each

        origins = {answer["now"]["origin"] for answer in eventually(all_hit)}
        assert len(origins) == WORKERS
        for value in "abcdefghij":
            site.ask(f"/set?value={value}")
            eventually(partial(all_have, site, value))


def all_have(site, value):
    return {answer["value"] for answer in site.ask_each().values()} == {value}
