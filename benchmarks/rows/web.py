"""T11: a cached page under gunicorn, with two sync workers per contender."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import DJANGO_REDIS, LOCMEM, OURS, django_caches
from benchmarks.harness import interleave
from benchmarks.report import Limit, Row
from cachebridge.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["measure"]

_HOST = "127.0.0.1"
_WORKERS = 2
_ROUNDS = 9
_WINDOW_S = 0.6
_WITHIN_S = 40.0
_START_S = 60.0
_TITLE = "gunicorn, 2 sync workers, cache_page, 20 KiB"

NO_CACHE = "no cache at all"


@dataclass(slots=True)
class Server:
    """A running gunicorn: where it listens, and its process."""

    port: int
    pid: int
    cpu_s_per_request: list[float]

    def window(self) -> float:
        """Load it for a moment: responses per second."""
        cpu_before_s = _workers_cpu_s(self.pid)
        loaded = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).parents[1] / "web_load.py"),
                _HOST,
                str(self.port),
                str(_WINDOW_S),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        counted = json.loads(loaded.stdout)
        used_s = _workers_cpu_s(self.pid) - cpu_before_s
        self.cpu_s_per_request.append(used_s / counted["responses"])
        return counted["responses"] / counted["seconds"]


def measure(redis_url: str) -> list[Row]:
    """Load all contenders in turns: responses, then worker CPU per request."""
    if not find_spec("gunicorn"):
        empty: dict[str, list[float]] = {OURS: []}
        return [Row("T11", _TITLE, "per s", empty, notes=["gunicorn is absent: n/a"])]

    with ExitStack() as running:
        servers = {
            label: running.enter_context(_gunicorn(label, redis_url))
            for label in [NO_CACHE, *django_caches(redis_url)]
        }
        windows: dict[str, Callable[[], float]] = {
            label: server.window for label, server in servers.items()
        }
        interleave(windows, 1)
        for server in servers.values():
            server.cpu_s_per_request.clear()
        rates = interleave(windows, _ROUNDS, within_s=_WITHIN_S)
        l1_hit_ratio = float(_read(servers[OURS].port, "/l1-hit-ratio/"))

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


@contextmanager
def _gunicorn(label: str, redis_url: str) -> Iterator[Server]:
    port = free_port()
    environment = os.environ | {"REDIS_URL": redis_url}
    if label != NO_CACHE:
        environment["CACHE_CONTENDER"] = label
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", "benchmarks.web_site:application"),
            *("--bind", f"{_HOST}:{port}", "--workers", str(_WORKERS)),
            *("--worker-class", "sync", "--log-level", "warning"),
        ],
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    try:
        _await_page(port)
        yield Server(port, process.pid, [])
    finally:
        process.terminate()
        process.wait(timeout=10)


def _await_page(port: int) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            _read(port, "/")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _read(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://{_HOST}:{port}{path}", timeout=5) as page:
        return page.read().decode()


def _workers_cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process's children; 0 where /proc is not."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0.0
    return sum(_cpu_s(int(child)) for child in children)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
