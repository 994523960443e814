"""A WSGI application that uses its cache while uWSGI loads it."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from cachebridge import Cache
from tests.rig import PATIENT, engine_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KEY = "preloaded"
cache = Cache(os.environ["CACHE_URL"], **PATIENT)
engine = engine_of(cache)


def state() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "origin": engine.rules.origin.hex(),
        "threads": [each.name for each in threading.enumerate()],
        "l1_hits": engine.counters.l1_hits,
    }


cache.set(KEY, "by the master")
for _ in range(5):
    cache.get(KEY)
LOADED = state()


def application(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    """``/`` reads, ``/set?value=...`` writes."""
    answer: dict[str, Any] = {}
    if environ["PATH_INFO"] == "/set":
        (value,) = parse_qs(environ["QUERY_STRING"])["value"]
        cache.set(KEY, value)
    answer |= {"value": cache.get(KEY), "loaded": LOADED, "now": state()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
