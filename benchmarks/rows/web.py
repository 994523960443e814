"""T11: a cached page under gunicorn, with two sync workers per contender."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import DJANGO_REDIS, LOCMEM, OURS, django_caches
from benchmarks.harness import interleave
from benchmarks.report import Limit, Row
from benchmarks.web_servers import NO_CACHE, gunicorn, read

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure"]

_APPLICATION = "benchmarks.web_site:application"
_ROUNDS = 9
_WITHIN_S = 40.0
_TITLE = "gunicorn, 2 sync workers, cache_page, 20 KiB"


def measure(redis_url: str) -> list[Row]:
    """Load all contenders in turns: responses, then worker CPU per request."""
    if not find_spec("gunicorn"):
        empty: dict[str, list[float]] = {OURS: []}
        return [Row("T11", _TITLE, "per s", empty, notes=["gunicorn is absent: n/a"])]

    with ExitStack() as running:
        servers = {
            label: running.enter_context(gunicorn(_APPLICATION, label, redis_url))
            for label in [NO_CACHE, *django_caches(redis_url)]
        }
        windows: dict[str, Callable[[], float]] = {
            label: server.window for label, server in servers.items()
        }
        interleave(windows, 1)
        for server in servers.values():
            server.cpu_s_per_request.clear()
        rates = interleave(windows, _ROUNDS, within_s=_WITHIN_S)
        l1_hit_ratio = float(read(servers[OURS].port, "/l1-hit-ratio/"))

    limits = [
        Limit(OURS, DJANGO_REDIS, 2.0, "at least", ">= 2x the rate of django-redis"),
        Limit(OURS, LOCMEM, 1.0, "at least", ">= the rate of LocMem"),
    ]
    row = Row(
        "T11",
        _TITLE,
        "per s",
        rates,
        [limit.judge(rates) for limit in limits],
        [f"L1 answered {l1_hit_ratio:.3%} of the reads of one worker"],
    )
    if not Path("/proc/self/stat").exists():
        return [row]
    cpu = {label: server.cpu_s_per_request for label, server in servers.items()}
    return [row, Row("T11c", "the same: worker CPU per request", "s", cpu)]
