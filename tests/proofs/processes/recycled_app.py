"""A WSGI application under gunicorn that reads the same hot keys for every request.

As docs/warm-up.md advises, a worker names a key to ``cache.warm`` where it starts.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cachebridge import Cache
from tests.rig import PATIENT, engine_of, eventually, refreshed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HOT = [f"product:{number}" for number in range(200)]
SETTING = "setting"
OPTIONS = {**PATIENT, "on_error": "raise", "l1_warm": True, "bus_trust": 120.0}
"""Trust lasts: a busy machine must not send a read to L2."""

bind = os.environ.get("SITE", "")
workers = 2
max_requests = 5
"""This module is gunicorn's configuration, too."""


class Site:
    """What one worker has."""

    def __init__(self, age: int) -> None:
        self.cache = Cache(os.environ["CACHE_URL"], **OPTIONS)
        self.age = age
        self.handled = 0

    def begin(self) -> None:
        """Let the warm-up begin, and wait for its end: then no chance is left."""
        self.cache.warm([SETTING])
        eventually(lambda: self.cache.stats().trusted)
        warm_up = engine_of(self.cache).warm_up
        eventually(lambda: warm_up._work.todo is not None)
        refreshed(self.cache)

    def answer(self) -> dict[str, Any]:
        """Read every hot key by itself; tell which level has answered the reads."""
        before = self.cache.stats()
        values = [self.cache.get(key) for key in HOT]
        after = self.cache.stats()
        self.handled += 1
        return {
            "age": self.age,
            "handled": self.handled,
            "values": values,
            "warmed": before.warmed,
            "l1_hits": after.l1_hits - before.l1_hits,
            "l2_reads": after.l2_hits + after.misses - before.l2_hits - before.misses,
        }


sites: list[Site] = []
"""Of this process: one, once it is a worker."""


def post_worker_init(worker: Any) -> None:
    """Prepare a worker; gunicorn calls this before the worker's first request."""
    site = Site(worker.age)
    site.begin()
    sites.append(site)


def application(
    _environ: dict[str, Any], start_response: Callable[..., Any]
) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(sites[0].answer()).encode()]
