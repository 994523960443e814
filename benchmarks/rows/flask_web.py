"""T12: a cached Flask view under gunicorn, with two sync workers per contender."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.flask_contenders import OURS, REDIS, SIMPLE, configs
from benchmarks.harness import interleave
from benchmarks.report import Limit, Row
from benchmarks.web_servers import NO_CACHE, gunicorn, read

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["measure"]

_APPLICATION = "benchmarks.flask_site:application"
_ROUNDS = 9
_WITHIN_S = 40.0
_TITLE = "gunicorn, 2 sync workers, Flask @cached, 20 KiB"


def measure(redis_url: str) -> list[Row]:
    """Load all contenders in turns: responses, then worker CPU per request."""
    labels = list(configs(redis_url))
    if not find_spec("gunicorn") or OURS not in labels:
        empty: dict[str, list[float]] = {OURS: []}
        notes = ["gunicorn or Flask is absent: n/a"]
        return [Row("T12", _TITLE, "per s", empty, notes=notes)]

    with ExitStack() as running:
        servers = {
            label: running.enter_context(gunicorn(_APPLICATION, label, redis_url))
            for label in [NO_CACHE, *labels]
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
        Limit(OURS, SIMPLE, 0.97, "at least", ">= 0.97x the rate of SimpleCache"),
        Limit(
            OURS, REDIS, 1.4, "at least", ">= 1.4x the rate of Flask-Caching on Redis"
        ),
    ]
    row = Row(
        "T12",
        _TITLE,
        "per s",
        rates,
        [limit.judge(rates) for limit in limits],
        [f"L1 answered {l1_hit_ratio:.3%} of the reads of one worker"],
    )
    if not Path("/proc/self/stat").exists():
        return [row]
    cpu = {label: server.cpu_s_per_request for label, server in servers.items()}
    return [row, Row("T12c", "the same: worker CPU per request", "s", cpu)]
