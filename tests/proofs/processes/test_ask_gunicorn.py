"""Ask a fleet of gunicorn's workers: threads, several processes, one of them new."""

from __future__ import annotations

import json
import sys
from urllib.request import urlopen

import pytest

from cachebridge.commands import main
from tests.children import Child
from tests.rig import PATIENCE_S, eventually

pytestmark = pytest.mark.proof
WORKERS = 3


def app(environ, start_response):
    """Read a key; gunicorn's workers import this."""
    import os

    from cachebridge import Cache

    cache = app.__dict__.setdefault(
        "cache", Cache(os.environ["CACHE_URL"], KEY_PREFIX="shop:")
    )
    cache.get("k")
    start_response("200 OK", [])
    return [f"{os.getpid()}".encode()]


def test_gunicorn(redis_url, free_port, capsys):
    """Every worker that reads is seen, with its pid and its trust."""
    site = Child(
        [
            *(sys.executable, "-m", "gunicorn", "--workers", str(WORKERS)),
            *("--threads", "2", "--bind", f"127.0.0.1:{free_port}"),
            "tests.proofs.processes.test_ask_gunicorn:app",
        ],
        env={"CACHE_URL": redis_url, "CACHEBRIDGE_ROLE": "web"},
    )
    pids: set[int] = set()

    def trusted():
        try:
            for _ in range(20):
                with urlopen(f"http://127.0.0.1:{free_port}/") as page:
                    pids.add(int(page.read()))
        except OSError:
            return False
        status = main(["stats", redis_url, "--json", "--timeout", str(PATIENCE_S)])
        told = json.loads(capsys.readouterr().out)
        seen = {each["who"]["pid"] for each in told["answers"]}
        return status == 0 and len(seen) == WORKERS and seen == pids

    try:
        eventually(trusted)
        assert main(["who", redis_url]) == 0
        assert capsys.readouterr().out.count(" web ") == WORKERS
    finally:
        site.end()
