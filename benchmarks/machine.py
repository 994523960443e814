"""The machine that a run was measured on, and whether it had other work to do."""

from __future__ import annotations

import os
import platform
import time
from pathlib import Path

__all__ = ["MOST_BUSY", "busy_share", "described", "is_busy"]

MOST_BUSY = 0.5
"""Which part of all cores other programs may use while a verdict is made."""
_LOOK_S = 0.4
_STAT = Path("/proc/stat")


def busy_share(look_s: float = _LOOK_S) -> float:
    """Return which part of all cores is in use while this process sleeps: 0 to 1.

    Servers and workers of a row rest meanwhile: what is busy is others' work.  Without
    /proc it is the load of the last minute, this run's own included.
    """
    if not _STAT.exists():
        return min(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    before = _ticks()
    time.sleep(look_s)
    after = _ticks()
    idle, total = (now - then for now, then in zip(after, before, strict=True))
    return 1 - idle / total if total else 0.0


def _ticks() -> tuple[int, int]:
    """Return the ticks in which the cores were idle, and all of them."""
    numbers = [int(each) for each in _STAT.read_text().partition("\n")[0].split()[1:9]]
    return numbers[3] + numbers[4], sum(numbers)


def is_busy() -> bool:
    """Return whether other programs leave too little for a verdict."""
    return busy_share() > MOST_BUSY


def described() -> dict[str, str]:
    """Return what the figures depend on besides versions."""
    found = {
        "processor": _first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "others' share of the cores": f"{busy_share():.2f}",
    }
    if memory := _first("/proc/meminfo", "MemTotal"):
        found["memory"] = f"{int(memory.split()[0]) / 1024**2:.0f} GiB"
    return found


def _first(path: str, name: str) -> str:
    """Return the value of the first line of that name, "" for none."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    values = (line.partition(":")[2].strip() for line in lines if line.startswith(name))
    return next(values, "")
