"""A WSGI application whose cache is already listening when gunicorn's master forks.

A thread of the master goes on writing the master's state to the file MASTER_STATE.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cachebridge import Cache
from tests.rig import PATIENCE_S, PATIENT, engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEY = "preloaded"
URL = os.environ["CACHE_URL"]
STATE = Path(os.environ["MASTER_STATE"])
DEADLINE_S = PATIENCE_S

cache = Cache(URL, **PATIENT)
engine = engine_of(cache)


def state() -> dict[str, Any]:
    """Tell what this process's engine is like, without waking anything in it."""
    return {
        "pid": os.getpid(),
        "origin": engine.rules.origin.hex(),
        "entries": len(engine.l1),
        "locks": type(engine.listening.lock).__module__,
        "listening": engine.listening.is_running(),
        "trusted": engine.rules.is_on(time.monotonic()),
        "l1_hits": engine.counters.l1_hits,
    }


def warm_up() -> None:
    """Read until L1 answers: the listener runs."""
    cache.set(KEY, "by the master")
    deadline = time.monotonic() + DEADLINE_S
    while not engine.counters.l1_hits:
        assert time.monotonic() < deadline, "the master never trusted its L1"
        cache.get(KEY)
        time.sleep(0.01)


def report_for_ever() -> None:
    """Keep the master's state up to date, one atomic replacement at a time."""
    while True:
        fresh = STATE.with_suffix(".new")
        fresh.write_text(json.dumps({**state(), "value": cache.get(KEY)}))
        fresh.replace(STATE)
        time.sleep(0.02)


warm_up()
IN_MASTER = state()
threading.Thread(target=report_for_ever, daemon=True).start()
FIRST: dict[int, dict[str, Any]] = {}


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """``/get``, ``/set?value=...`` and ``/state`` on the one key."""
    FIRST.setdefault(os.getpid(), state())
    answer: dict[str, Any] = {}
    if environ["PATH_INFO"] == "/set":
        (value,) = parse_qs(environ["QUERY_STRING"])["value"]
        cache.set(KEY, value)
    elif environ["PATH_INFO"] == "/get":
        answer["value"] = cache.get(KEY)
    answer |= {"first": FIRST[os.getpid()], "now": state(), "master": IN_MASTER}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
