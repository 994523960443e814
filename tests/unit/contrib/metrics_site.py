"""A Django-less site for gunicorn whose workers count, and what all of them have.

``/read/N`` reads N keys, each twice; ``/truth`` returns this worker's counters, and
``/update`` brings its metrics up to date; ``/metrics`` is the sum over all workers.
"""

from __future__ import annotations

import json
import os
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest, multiprocess

from cachebridge import Cache
from cachebridge.contrib import prometheus
from tests.rig import PATIENT

BEFORE_THE_FORK = 3
"""What gunicorn's own process misses, before it forks the workers."""
cache = Cache(os.environ["CACHEBRIDGE_TEST_URL"], **PATIENT)
exporter = prometheus.start(every_s=3600)
for number in range(BEFORE_THE_FORK):
    cache.get(f"absent {number}")
exporter.update()


def act(path: str) -> bytes:
    _, action, *arguments = path.split("/")
    if action == "metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return generate_latest(registry)
    if action == "read":
        for number in range(int(arguments[0])):
            cache.get_or_load(f"key {number}", lambda: 1)
            cache.get(f"key {number}")
    if action == "update":
        exporter.update()
    stats = cache.stats()
    told = {name: getattr(stats, name) for name in ("l1_hits", "l2_hits", "misses")}
    told["loads"] = stats.loads
    told["entries"] = stats.l1_entries
    told["delays"] = stats.invalidation_delay.count
    return json.dumps(told).encode()


def site(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    body = act(environ["PATH_INFO"])
    start_response("200 OK", [("X-Pid", str(os.getpid()))])
    return [body]
