"""gunicorn with two sync workers, loaded by another process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cachebridge.testing.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NO_CACHE", "Server", "gunicorn", "read"]

NO_CACHE = "no cache at all"

_HOST = "127.0.0.1"
_WORKERS = 2
_WINDOW_S = 0.6
_START_S = 60.0


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
                str(Path(__file__).parent / "web_load.py"),
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


@contextmanager
def gunicorn(application: str, label: str, redis_url: str) -> Iterator[Server]:
    """Run an application; it finds the contender in its environment."""
    port = free_port()
    environment = os.environ | {"REDIS_URL": redis_url}
    if label != NO_CACHE:
        environment["CACHE_CONTENDER"] = label
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "gunicorn", application),
            *("--bind", f"{_HOST}:{port}", "--workers", str(_WORKERS)),
            *("--worker-class", "sync", "--log-level", "warning"),
        ],
        env=environment,
        cwd=Path(__file__).parents[1],
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
            read(port, "/")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def read(port: int, path: str) -> str:
    """Return a page as text."""
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
